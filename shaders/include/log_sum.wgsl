// ln of a sum, or of a quotient of two. Near 1 `log` may be off by 5e-7 absolutely; the series is not.
fn log_sum(z: f32) -> f32 {
    let x = z - 1.0;
    let near = x * (1.0 - x * (0.5 - x * (0.33333334 - x * (0.25 - x * 0.2))));
    return select(log(z), near, abs(x) < 0.03125);
}
