//! The loss through its public interface. There is one binary, since linking candle takes longer than a test.

mod backward;
mod composed;
mod inputs;
mod refusals;
#[allow(dead_code, reason = "nothing of candle is left out")]
#[path = "../../../../tests/report/mod.rs"]
mod report;
mod table;
mod views;
