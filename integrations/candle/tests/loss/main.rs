//! The loss through its public interface. There is one binary, since linking candle takes longer than a test.

mod backward;
mod composed;
mod inputs;
mod refusals;
mod table;
mod views;
