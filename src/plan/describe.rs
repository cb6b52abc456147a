//! Plans as text.

use std::fmt;

use super::planner::{Plan, PlanKind};
use crate::shader::Access;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            PlanKind::Packed => "packed",
            PlanKind::Resident => "resident",
            PlanKind::Streaming => "streaming",
            PlanKind::Split => "split",
            PlanKind::TwoPhase => "two-phase",
        };
        let v = &self.variant;
        let meet = match v.subgroup_min {
            Some(_) => "subgroups",
            None => "workgroup memory",
        };
        let access = match v.access {
            Access::Vec4 => "vec4",
            Access::Element => "element",
        };
        write!(
            f,
            "{kind}: {} of {} lanes a row, {} vectors at a time, {access} access, {meet}, ",
            v.lanes, v.workgroup_size, v.vectors_per_lane
        )?;
        if self.segments > 1 {
            write!(f, "{} segments a row, ", self.segments)?;
        }
        match self.chunks.as_slice() {
            [] => write!(f, "no rows"),
            [only] => write!(f, "{} workgroups", only.workgroups),
            many => write!(f, "{} chunks", many.len()),
        }
    }
}
