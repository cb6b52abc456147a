// ln z. Near 1 the absolute error of `log` may be 5e-7, so a series is used there.
fn log_sum(z: f32) -> f32 {
    let x = z - 1.0;
    let near = x * (1.0 - x * (0.5 - x * (0.33333334 - x * (0.25 - x * 0.2))));
    return select(log(z), near, abs(x) < 0.03125);
}
