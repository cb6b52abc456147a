//! Teachers that are lists of classes with their log-probabilities.

/// The list of a row, from the teacher's logits of all classes: `k` classes and their log-probabilities. The order and the empty places
/// depend on the row's number.
pub fn top_k(logits: &[f32], k: usize, row: usize) -> (Vec<i32>, Vec<f32>) {
    let wide: Vec<f64> = logits.iter().copied().map(f64::from).collect();
    let max = wide.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = wide.iter().map(|x| (x - max).exp()).sum();
    let mut likeliest: Vec<usize> = (0..logits.len()).collect();
    likeliest.sort_by(|a, b| wide[*b].total_cmp(&wide[*a]));
    likeliest.truncate(k);
    match row % 4 {
        0 => {}
        1 => likeliest.reverse(),
        2 => likeliest.sort_unstable(),
        _ => likeliest.rotate_left(k / 2),
    }
    let log_probability = |class: usize| wide[class] - max - sum.ln();
    // The probability off the list. f32 has no digits of it where several likely classes leave nearly nothing: those rows get a larger rest.
    let mut logs: Vec<f64> = likeliest
        .iter()
        .map(|class| log_probability(*class))
        .collect();
    logs.sort_by(f64::total_cmp);
    let largest = logs.pop().unwrap_or(f64::NEG_INFINITY);
    let others: f64 = logs.into_iter().map(f64::exp).sum();
    let rest = -largest.exp_m1() - others;
    let shift = if rest < 0.01 && others > rest {
        0.02
    } else {
        0.0
    };
    let empties = match row % 7 {
        4 => k / 2,
        6 => k,
        _ => 0,
    };
    let entry = |(place, class): (usize, usize)| {
        let log_probability = (log_probability(class) - shift) as f32;
        match place < empties {
            false => (class as i32, log_probability),
            // Either makes an empty place.
            true if place % 2 == 0 => (-1, log_probability),
            true => (class as i32, f32::NEG_INFINITY),
        }
    };
    likeliest.into_iter().enumerate().map(entry).unzip()
}

/// Makes entries of some rows invalid: classes that do not exist, and classes twice.
pub fn break_row(ids: &mut [i32], classes: usize, row: usize) {
    let last = ids.len() - 1;
    match row {
        1 => ids[last] = classes as i32,
        4 => ids[0] = -2,
        2 | 5 => ids[last] = ids[0],
        _ => {}
    }
}
