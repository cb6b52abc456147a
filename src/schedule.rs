//! Schedules: warped training time, numbers that change with it, and the moving average of KDR.
//!
//! Selections such as [`Selection::Tstr`] use the elapsed share of training time (TSTR), which grows linearly.
//! [`Progress::warped`] gives a progress whose share grows differently:
//!
//! ```
//! use wgpu_distill::Progress;
//! use wgpu_distill::schedule::Warp;
//!
//! # fn main() -> wgpu_distill::Result<()> {
//! // The teacher alone for the first tenth, then a linear rise of the label's share.
//! let progress = Progress::new(55, 100).warped(Warp::WarmUp(0.1))?;
//! assert_eq!(progress.tstr(), 0.5);
//! # Ok(())
//! # }
//! ```

use crate::config::choice::choice;
use crate::config::require;
use crate::{Progress, Result, Scope, Selection, Summary, validate};

choice! {
    /// A map of the elapsed share of training time `x` to another share. Both lie in `[0, 1]`. The map never falls, and it takes 0 to 0
    /// and 1 to 1. Its numbers are shares of the training or exponents, without a unit.
    Warp, "warp";
    /// `x`
    #[default]
    Linear = "linear",
    /// `(1 - cos(pi x)) / 2`: slow at both ends.
    Cosine = "cosine",
    /// `x^exponent`, with an exponent of 0.01 to 100: above 1 slow at first, below 1 fast at first.
    Power(exponent = 2.0) = "power",
    /// 0 up to this share of the training, then a straight line to 1. The share lies in `[0, 1)`.
    WarmUp(share = 0.1) = "warm-up",
    /// A straight line that reaches 1 at this share of the training, then 1. The share lies in `(0, 1]`.
    Hold(share = 0.8) = "hold",
}

impl Warp {
    fn check(self) -> Result<()> {
        match self {
            Self::Linear | Self::Cosine => Ok(()),
            Self::Power(exponent) => {
                let ok = (0.01..=100.0).contains(&exponent);
                require(ok, "warp: Power", exponent, "a number in [0.01, 100]")
            }
            Self::WarmUp(share) => {
                let ok = (0.0..1.0).contains(&share);
                require(ok, "warp: WarmUp", share, "a number in [0, 1)")
            }
            Self::Hold(share) => {
                let ok = share > 0.0 && share <= 1.0;
                require(ok, "warp: Hold", share, "a number in (0, 1]")
            }
        }
    }

    fn of(self, x: f64) -> f64 {
        match self {
            Self::Linear => x,
            // The square loses no digit near 0, as the difference of 1 and the cosine does.
            Self::Cosine => (std::f64::consts::FRAC_PI_2 * x).sin().powi(2),
            Self::Power(exponent) => x.powf(f64::from(exponent)),
            Self::WarmUp(share) => {
                let share = f64::from(share);
                ((x - share) / (1.0 - share)).max(0.0)
            }
            Self::Hold(share) => (x / f64::from(share)).min(1.0),
        }
    }
}

/// The total of a warped progress. Every step up to it is an exact f64.
const WARPED_TOTAL: u64 = 1 << 53;

impl Progress {
    /// The progress whose TSTR is the `warp` of this one's, to an f32. Its steps are no steps of the training: `total` is 2^53.
    /// [`Progress::NONE`] stays without training time.
    ///
    /// Refuses a step beyond the total, a total of 0, and numbers of the warp out of range.
    pub fn warped(self, warp: Warp) -> Result<Self> {
        warp.check()?;
        if self == Self::NONE {
            return Ok(self);
        }
        validate::progress(Selection::Tstr, self)?;
        if warp == Warp::Linear {
            return Ok(self);
        }
        let share = warp.of(self.step as f64 / self.total as f64);
        Ok(Self::new(
            (share * WARPED_TOTAL as f64).round() as u64,
            WARPED_TOTAL,
        ))
    }
}

/// A number on the straight line from `from` at TSTR 0 to `to` at TSTR 1, for example a temperature or the share of
/// [`Divergence::Taid`](crate::Divergence::Taid).
pub fn linear(from: f32, to: f32, progress: Progress) -> f32 {
    let x = f64::from(progress.tstr());
    (f64::from(from) * (1.0 - x) + f64::from(to) * x) as f32
}

/// A number that changes by equal factors in equal times: `from^(1 - TSTR) to^TSTR`. Both numbers are above 0.
pub fn geometric(from: f32, to: f32, progress: Progress) -> f32 {
    let x = f64::from(progress.tstr());
    (f64::from(from).powf(1.0 - x) * f64::from(to).powf(x)) as f32
}

/// The moving average of the batches' mean KDR, for [`Scope::Given`].
///
/// A batch of few rows has a noisy mean. The average over steps is smoother, and a step reads its rows only once, unlike
/// [`Scope::Batch`]. The weight of a step falls by the factor `decay` with each later step. The weights are divided by their sum, so
/// that the first steps are not drawn to 0 (the bias correction of Adam, Kingma and Ba 2015).
///
/// ```
/// use wgpu_distill::schedule::KdrAverage;
/// use wgpu_distill::{Batch, Config, Engine, Outputs, Progress};
///
/// # fn main() -> wgpu_distill::Result<()> {
/// # let engine = Engine::cpu();
/// # let (student, teacher, labels) = ([0.2, 0.1, -0.4], [2.0, -1.0, 0.1], [0]);
/// let mut average = KdrAverage::new(0.99)?;
/// for step in 0..3 {
///     let batch = Batch::new(&student, &teacher, &labels, 3);
///     let config = Config {
///         scope: average.scope(),
///         ..Config::default()
///     };
///     let done = engine.run(&config, Progress::new(step, 3), &batch, Outputs::GRADIENT)?;
///     average.add(&done.summary);
/// }
/// # assert!(average.kdr().is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct KdrAverage {
    decay: f64,
    /// The sum of the KDR of all steps, each times its weight.
    sum: f64,
    /// The sum of the weights.
    weight: f64,
}

impl KdrAverage {
    /// An average over no step yet; `decay` in `[0, 1)`. About `1 / (1 - decay)` steps count; 0 is the last step alone.
    pub fn new(decay: f32) -> Result<Self> {
        let ok = (0.0..1.0).contains(&decay);
        require(ok, "KdrAverage: decay", decay, "a number in [0, 1)")?;
        Ok(Self {
            decay: f64::from(decay),
            sum: 0.0,
            weight: 0.0,
        })
    }

    /// Adds the KDR of a step. A batch without a valid and finite row has none and changes nothing.
    pub fn add(&mut self, summary: &Summary) {
        // A mean above 0 has rows. A mean of 0 is one only if a row took part.
        if summary.kdr > 0.0 || summary.valid_rows > summary.non_finite_rows {
            self.sum = self.decay * self.sum + (1.0 - self.decay) * f64::from(summary.kdr);
            self.weight = self.decay * self.weight + (1.0 - self.decay);
        }
    }

    /// The average, in `[0, 1]`; none before the first step.
    pub fn kdr(&self) -> Option<f32> {
        (self.weight > 0.0).then(|| (self.sum / self.weight).clamp(0.0, 1.0) as f32)
    }

    /// [`Scope::Given`] with the average. Before the first step [`Scope::Batch`], whose KDR the average starts with.
    pub fn scope(&self) -> Scope {
        self.kdr().map_or(Scope::Batch, Scope::Given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    const WARPS: [Warp; 9] = [
        Warp::Linear,
        Warp::Cosine,
        Warp::Power(0.01),
        Warp::Power(0.5),
        Warp::Power(3.0),
        Warp::WarmUp(0.0),
        Warp::WarmUp(0.3),
        Warp::Hold(0.7),
        Warp::Hold(1.0),
    ];

    fn share(warp: Warp, step: u64, total: u64) -> f64 {
        let progress = Progress::new(step, total).warped(warp).expect("in range");
        progress.step as f64 / progress.total as f64
    }

    #[test]
    fn warps_keep_the_ends_and_never_fall() {
        for warp in WARPS {
            assert_eq!(share(warp, 0, 1000), 0.0, "{warp}");
            assert_eq!(share(warp, 1000, 1000), 1.0, "{warp}");
            let shares: Vec<f64> = (0..=1000).map(|step| share(warp, step, 1000)).collect();
            let falls = shares.windows(2).position(|pair| pair[1] < pair[0]);
            assert_eq!(falls, None, "{warp}");
            assert!(shares.iter().all(|x| (0.0..=1.0).contains(x)), "{warp}");
        }
    }

    /// The share of training time that a warp maps to `y`, where only one does.
    fn inverse(warp: Warp, y: f64) -> f64 {
        match warp {
            Warp::Linear => y,
            Warp::Cosine => (1.0 - 2.0 * y).acos() / std::f64::consts::PI,
            Warp::Power(exponent) => y.powf(1.0 / f64::from(exponent)),
            Warp::WarmUp(share) => f64::from(share) + y * (1.0 - f64::from(share)),
            Warp::Hold(share) => y * f64::from(share),
        }
    }

    #[test]
    fn warps_are_their_formulas() {
        for warp in WARPS {
            for step in 1..1000 {
                let y = share(warp, step, 1000);
                if y > 0.0 && y < 1.0 {
                    let x = inverse(warp, y);
                    let difference = (x - step as f64 / 1000.0).abs();
                    // Shares are multiples of 2^-53. The inverse of a power enlarges that near 0.
                    assert!(difference < 1e-10, "{warp}: {step}: {x}");
                }
            }
        }
        assert_eq!(share(Warp::WarmUp(0.5), 5, 10), 0.0);
        assert_eq!(share(Warp::Hold(0.5), 5, 10), 1.0);
    }

    #[test]
    fn warps_compose_and_keep_what_is_no_time() {
        let progress = Progress::new(25, 100);
        let twice = progress.warped(Warp::Power(2.0)).expect("in range");
        let twice = twice.warped(Warp::Power(0.5)).expect("in range");
        assert_eq!(twice.tstr(), progress.tstr());
        assert_eq!(progress.warped(Warp::Linear), Ok(progress));
        assert_eq!(Progress::NONE.warped(Warp::Cosine), Ok(Progress::NONE));
    }

    #[test]
    fn warps_refuse_what_is_out_of_range() {
        let progress = Progress::new(1, 2);
        for warp in [
            Warp::Power(0.0),
            Warp::Power(101.0),
            Warp::WarmUp(1.0),
            Warp::WarmUp(-0.1),
            Warp::Hold(0.0),
            Warp::Hold(f32::NAN),
        ] {
            let refused = progress.warped(warp);
            assert!(
                matches!(refused, Err(Error::InvalidConfig { .. })),
                "{warp}"
            );
        }
        for warp in WARPS {
            let beyond = Error::InvalidProgress { step: 3, total: 2 };
            assert_eq!(Progress::new(3, 2).warped(warp), Err(beyond));
        }
    }

    #[test]
    fn warps_have_names() {
        for warp in Warp::ALL {
            assert_eq!(warp.to_string().parse(), Ok(warp));
        }
        assert_eq!("warm-up:0.2".parse(), Ok(Warp::WarmUp(0.2)));
        assert!("hold:2".parse::<Warp>().is_err());
    }

    #[test]
    fn numbers_reach_both_ends() {
        let (start, middle, end) = (
            Progress::new(0, 10),
            Progress::new(5, 10),
            Progress::new(10, 10),
        );
        assert_eq!(linear(0.1, 0.7, start), 0.1);
        assert_eq!(linear(0.1, 0.7, end), 0.7);
        assert_eq!(linear(0.5, 1.0, middle), 0.75);
        assert_eq!(geometric(8.0, 0.3, start), 8.0);
        assert_eq!(geometric(8.0, 0.3, end), 0.3);
        assert_eq!(geometric(8.0, 0.5, middle), 2.0);
    }

    fn step(kdr: f32, valid_rows: u32, non_finite_rows: u32) -> Summary {
        Summary {
            kdr,
            valid_rows,
            non_finite_rows,
            ..Summary::default()
        }
    }

    #[test]
    fn the_average_is_not_drawn_to_zero() {
        for decay in [0.0, 0.9, 0.999] {
            let mut average = KdrAverage::new(decay).expect("in range");
            assert_eq!((average.kdr(), average.scope()), (None, Scope::Batch));
            for _ in 0..100 {
                average.add(&step(0.625, 4, 0));
                let kdr = average.kdr().expect("a step");
                assert!((kdr - 0.625).abs() < 1e-6, "{decay}: {kdr}");
                assert_eq!(average.scope(), Scope::Given(kdr));
            }
        }
    }

    #[test]
    fn the_average_is_the_weighted_mean_of_its_steps() {
        let values = [0.9f32, 0.2, 0.0, 0.7];
        let mut average = KdrAverage::new(0.75).expect("in range");
        for kdr in values {
            average.add(&step(kdr, 4, 0));
            // A batch without a row that counts.
            average.add(&step(0.0, 0, 0));
            average.add(&step(0.0, 2, 2));
        }
        let weights = [0, 1, 2, 3].map(|later| 0.75f64.powi(3 - later));
        let pairs = values.iter().zip(weights);
        let sum: f64 = pairs.map(|(kdr, weight)| f64::from(*kdr) * weight).sum();
        let expected = sum / weights.iter().sum::<f64>();
        let kdr = f64::from(average.kdr().expect("steps"));
        assert!((kdr - expected).abs() < 1e-7, "{kdr} {expected}");
    }

    #[test]
    fn a_decay_out_of_range_is_refused() {
        for decay in [1.0, -0.1, f32::NAN] {
            assert!(KdrAverage::new(decay).is_err(), "{decay}");
        }
    }
}
