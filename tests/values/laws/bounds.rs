//! Bounds of a row's loss: rows within them keep every bit, the others have the bound and no gradient.

use wgpu_distill::flags;

use super::drawn::{drawn, on_every_engine};

#[test]
fn bounds_replace_the_losses_beyond_them_alone() {
    on_every_engine(
        |of| drawn(of, true),
        |engine, drawn| {
            let free = drawn.run(engine)?;
            let mut losses: Vec<f32> = free.rows.iter().map(|r| r.loss).collect();
            losses.sort_by(f32::total_cmp);
            // Between losses: a quarter of the rows lies below, and a quarter above.
            let at = |n: usize| losses[n * (losses.len() - 1) / 4];
            let bounds = [0.999 * at(1), (1.001 * at(3)).clamp(1e-6, 1e30)];
            if bounds[0] >= bounds[1] {
                return Ok(());
            }
            let mut clamped = drawn.clone();
            clamped.config.loss_clamp = Some(bounds);
            let got = clamped.run(engine)?;
            let n = drawn.classes;
            for (row, (g, w)) in got.rows.iter().zip(&free.rows).enumerate() {
                let [gradient, before] =
                    [&got.gradient, &free.gradient].map(|all| &all[row * n..(row + 1) * n]);
                if w.flags & flags::IGNORED != 0 || (bounds[0] < w.loss && w.loss < bounds[1]) {
                    let same = |x: &f32, y: &f32| x.to_bits() == y.to_bits();
                    if g != w || !gradient.iter().zip(before).all(|(x, y)| same(x, y)) {
                        return Err(format!("row {row} within {bounds:?}: {g:?}, {w:?}"));
                    }
                } else if w.loss < bounds[0] || bounds[1] < w.loss {
                    let bound = if w.loss < bounds[0] {
                        bounds[0]
                    } else {
                        bounds[1]
                    };
                    let same = g.loss == bound && (g.kdr, g.tssr) == (w.kdr, w.tssr);
                    if !same || !g.is_clamped() || gradient.iter().any(|x| *x != 0.0) {
                        return Err(format!("row {row} beyond {bounds:?}: {g:?}, {w:?}"));
                    }
                    if g.flags & flags::NO_GRADIENT != 0 {
                        return Err(format!("flags of row {row}: {:#x}", g.flags));
                    }
                }
            }
            Ok(())
        },
    );
}
