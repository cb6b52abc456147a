//! Choices for single rows and classes.

/// The treatment of rows without a finite result: rows flagged [`flags::NON_FINITE`](crate::flags::NON_FINITE), because a bad step of
/// teacher or student left NaN or infinities in them, or [`flags::NO_GRADIENT`](crate::flags::NO_GRADIENT), because their divergence is
/// infinite and has no derivative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum NonFinite {
    /// The row's gradient is NaN. So is the batch's loss for rows with NaN or infinities among their logits.
    #[default]
    Propagate,
    /// Such rows are left out: loss, KDR, TSSR and gradient of the row are 0 ([`GradWrite::Accumulate`](crate::GradWrite::Accumulate) adds
    /// nothing), and the row has the flag [`flags::SKIPPED`](crate::flags::SKIPPED).
    /// [`Summary::non_finite_rows`](crate::Summary::non_finite_rows) counts it. A mean still divides by the number of labels.
    ///
    /// A row with a label out of range is not left out.
    Skip,
}

/// The parts of the loss that the weights of classes multiply, [`Batch::class_weights`](crate::Batch::class_weights).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum ClassWeighting {
    /// The hard part `- sum v_i EK_i ln h_i`, the `weight` of PyTorch's `cross_entropy`: the weight of the label multiplies the row's hard
    /// part. With label smoothing each class has its own weight.
    #[default]
    Hard,
    /// The soft part `- sum v_i q_i ln p_i`, for [`Divergence::SoftCrossEntropy`](crate::Divergence::SoftCrossEntropy).
    Soft,
    /// Both parts.
    Both,
}
