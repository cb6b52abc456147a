//! The loss through its public interface. There is one binary, since linking candle takes longer than a test.

mod backward;
#[path = "../../../../tests/cases/mod.rs"]
mod cases;
mod composed;
mod inputs;
mod reference;
mod refusals;
#[path = "../../../../tests/report/mod.rs"]
#[allow(dead_code, reason = "nothing of candle is left out")]
mod report;
mod table;
mod views;
