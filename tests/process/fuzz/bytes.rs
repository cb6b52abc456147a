//! Choices read from bytes. Missing bytes read as zero, which selects the usual value.

use wgpu_distill::{
    ClassWeighting, Config, Divergence, GradWrite, HardTemperature, MaskedClasses, Progress,
    Reduction, Scope, Selection, Similarity, SmoothedClasses, Standardization, Storage,
    TeacherClasses, TemperatureScaling, TssrGradient,
};

pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (now, rest) = self.0.split_at(self.0.len().min(N));
        self.0 = rest;
        let mut out = [0; N];
        out[..now.len()].copy_from_slice(now);
        out
    }

    pub fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    /// Returns true with a chance of one in `n`.
    pub fn rarely(&mut self, n: u8) -> bool {
        self.byte() % n == n - 1
    }

    /// A number below `n`, which is at most 65,536.
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(u16::from_le_bytes(self.take())) % n.max(1)
    }

    pub fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::from(self.byte()) % list.len()]
    }

    /// Any size; those at the ends of a range are more frequent.
    pub fn size(&mut self) -> usize {
        let edges = [
            0,
            1,
            3,
            1 << 16,
            1 << 28,
            (1 << 28) + 1,
            1 << 31,
            1 << 32,
            1 << 62,
            usize::MAX,
        ];
        match self.rarely(4) {
            true => self.u64() as usize,
            false => self.of(&edges),
        }
    }

    /// Usually a value of the list, sometimes any bits.
    pub fn number(&mut self, usual: &[f32]) -> f32 {
        let any = self.u32();
        match self.rarely(60) {
            true => f32::from_bits(any),
            false => self.of(usual),
        }
    }
}

const TEMPERATURES: [f32; 16] = [
    1.0, 1.0, 2.0, 0.5, 4.0, 0.07, 10.0, 1e3, 1e-3, 3.3, 1e-30, 1e30, 1e15, 1e-15, 1.85e19, 1e-20,
];

/// Usually a valid divergence. A zero byte selects the method's.
fn divergence(from: &mut Bytes<'_>) -> Divergence {
    use Divergence as D;
    let shares = [0.5, 0.1, 0.9, 0.01, 0.999];
    match from.of(&D::ALL) {
        D::KlSum { .. } => D::KlSum {
            forward: from.number(&[0.5, 0.0, 2.0, 1e-3]),
            reverse: from.number(&[0.5, 1.0, 2.0, 1e-3]),
        },
        D::Jsd { .. } => D::Jsd {
            beta: from.number(&shares),
        },
        D::SkewKl { .. } => D::SkewKl {
            alpha: from.number(&shares),
        },
        D::SkewReverseKl { .. } => D::SkewReverseKl {
            alpha: from.number(&shares),
        },
        D::KlTv { .. } => D::KlTv {
            scale: from.number(&[1.0, 0.5, 0.0]),
            decay: from.number(&[1.0, 0.0, 5.0, 100.0]),
        },
        D::AlphaBeta { .. } => D::AlphaBeta {
            alpha: from.number(&[0.5, 1.0, 0.1, 2.0, 4.0]),
            beta: from.number(&[0.5, 1.0, 0.1, 2.0, 4.0]),
        },
        D::Taid { .. } => D::Taid {
            share: from.number(&shares),
        },
        D::Dkd { .. } => D::Dkd {
            alpha: from.number(&[1.0, 0.0, 2.0]),
            beta: from.number(&[8.0, 0.0, 1.0]),
        },
        D::Nkd { .. } => D::Nkd {
            gamma: from.number(&[1.5, 1.0, 0.1]),
        },
        D::K1 { .. } => D::K1 {
            clamp: from.number(&[20.0, 1.0, 1e4]),
        },
        D::K2 { .. } => D::K2 {
            clamp: from.number(&[20.0, 1.0, 1e4]),
        },
        D::K3 { .. } => D::K3 {
            clamp: from.number(&[20.0, 1.0, 0.1]),
        },
        plain => plain,
    }
}

/// Usually a valid configuration.
pub fn config(from: &mut Bytes<'_>) -> Config {
    let mut selections = Selection::ALL;
    selections[6] = Selection::Fixed(from.number(&[0.5, 0.0, 1.0, 0.3]));
    selections[7] = Selection::Margin(from.number(&[0.2, 0.0, 1.0, 0.05]));
    let scopes = [
        Scope::Row,
        Scope::Row,
        Scope::Batch,
        Scope::Given(from.number(&[0.5, 0.0, 1.0])),
    ];
    let over = Reduction::SumOver(from.number(&[3.0, 1.0, 1e-3, 1e6, 0.0, 1e-30, 1e30, 1e15]));
    let reductions = [Reduction::Mean, Reduction::Sum, Reduction::None, over];
    let plain = from.byte();
    let config = Config {
        student_temperature: from.number(&TEMPERATURES),
        teacher_temperature: from.number(&TEMPERATURES),
        temperature_scaling: match plain & 1 {
            0 => TemperatureScaling::None,
            _ => TemperatureScaling::Squared,
        },
        similarity: from.of(&Similarity::ALL),
        selection: from.of(&selections),
        scope: from.of(&scopes),
        reduction: from.of(&reductions),
        label_smoothing: from.number(&[0.0, 0.0, 0.1, 0.5, 0.99]),
        ignore_index: if plain & 2 == 0 {
            -100
        } else {
            from.of(&[0, -1, 1, i32::MIN])
        },
        grad_loss: from.number(&[1.0, 1.0, 0.0, -2.0, 1024.0, 1e30, -1e-30, f32::MAX]),
        teacher_classes: match plain & 12 {
            12 => TeacherClasses::CommonPrefix,
            _ => TeacherClasses::SameAsStudent,
        },
        masked_classes: match plain & 224 {
            224 => MaskedClasses::Both,
            _ => MaskedClasses::Each,
        },
        grad_write: match from.rarely(100) {
            true => GradWrite::Accumulate,
            false => GradWrite::Overwrite,
        },
        ..match plain & 16 {
            0 => Config::default(),
            _ => loss(from),
        }
    };
    match config.divergence.is_sampled() && !from.rarely(8) {
        true => without_kdr(config),
        false => config,
    }
}

/// The configuration without the choices that divergences of sampled tokens refuse.
fn without_kdr(config: Config) -> Config {
    Config {
        teacher_temperature: 1.0,
        selection: match config.selection {
            selection if selection.needs_kdr() => Selection::Tstr,
            selection => selection,
        },
        scope: match config.scope {
            Scope::Batch => Scope::Row,
            scope => scope,
        },
        tssr_gradient: TssrGradient::Detached,
        ..config
    }
}

/// The fields of a loss other than the method's.
fn loss(from: &mut Bytes<'_>) -> Config {
    Config {
        divergence: divergence(from),
        soft_weight: from.number(&[1.0, 1.0, 0.5, 0.0, 3.0]),
        hard_weight: from.number(&[1.0, 1.0, 0.5, 0.0, 3.0]),
        hard_temperature: match from.rarely(3) {
            true => HardTemperature::Own(from.number(&[1.0, 2.0, 0.5, 10.0])),
            false => HardTemperature::Student,
        },
        z_loss: from.number(&[0.0, 0.0, 0.0, 1e-4, 0.1]),
        smoothed_classes: match from.rarely(4) {
            true => SmoothedClasses::Unmasked,
            false => SmoothedClasses::All,
        },
        loss_clamp: match from.rarely(8) {
            true => Some([from.number(&[0.0, 0.5, -1.0]), from.number(&[10.0, 1.0])]),
            false => None,
        },
        tssr_gradient: match from.rarely(16) {
            true => TssrGradient::Attached,
            false => TssrGradient::Detached,
        },
        class_weighting: from.of(&[
            ClassWeighting::Hard,
            ClassWeighting::Both,
            ClassWeighting::Soft,
        ]),
        standardization: match from.rarely(4) {
            true => Standardization::ZScore,
            false => Standardization::None,
        },
        ..Config::default()
    }
}

pub fn progress(from: &mut Bytes<'_>) -> Progress {
    match from.rarely(40) {
        true => Progress {
            step: from.u64(),
            total: from.u64(),
        },
        false => Progress {
            step: u64::from(from.byte()),
            total: 255,
        },
    }
}

pub fn storage(from: &mut Bytes<'_>) -> Storage {
    from.of(&Storage::ALL)
}
