//! The sums of a tile in the lanes of vectors.
//!
//! All functions are `inline(always)`: `isa.rs` compiles them once for each instruction set.

use super::element::Element;
use super::lanes::LANES;
use super::powers::{half_power, halves};
use super::setup::Setup;
use super::tile::Ahead;
use super::vector::Vector;
use crate::moments::{Moment, Moments};

/// Vectors per partial sum of exponentials. Each partial sum is then added to the lane's sum. Two-level summation bounds the rounding
/// error: in one sum with the 1 of the largest logit, each term of a long flat tail could be rounded away.
pub(super) const VECTORS_PER_PARTIAL_SUM: usize = 8;

/// Sums of exponentials and moments. Those of a lane's classes are in that lane. The moments' linear factors are in binary logarithms.
pub(super) struct LaneSums<V> {
    pub student: V,
    pub teacher: V,
    /// Those that are not in the set have no meaning.
    pub moments: [(Moment, V); 15],
}

/// The columns of a row or tile, with what stands for those that its last vectors lack: their weights must be 0.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a, T> {
    pub student: &'a [T],
    pub teacher: &'a [T],
    pub padding: [f32; 2],
}

impl<'a> Columns<'a, f32> {
    /// Whole vectors.
    pub fn whole(student: &'a [f32], teacher: &'a [f32]) -> Self {
        Self {
            student,
            teacher,
            padding: [0.0; 2],
        }
    }
}

/// [`lane_sums`] of a set that is not known before the program runs. WebAssembly has one such function, for its size.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
#[cfg_attr(target_arch = "wasm32", inline(never))]
pub(super) fn lane_sums_of_any<V: Vector, T: Element>(
    columns: Columns<'_, T>,
    maxima: (f32, f32),
    setup: &Setup<'_>,
    set: Moments,
    exps: (&mut [f32], &mut [f32]),
    ahead: [Ahead; 3],
) -> LaneSums<V> {
    lane_sums::<V, T>(columns, maxima, setup, set, exps, ahead)
}

/// Sums plain numbers relative to their maxima. Writes their exponentials to `exps`, whole vectors of them.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn lane_sums<V: Vector, T: Element>(
    columns: Columns<'_, T>,
    maxima: (f32, f32),
    setup: &Setup<'_>,
    set: Moments,
    (es, et): (&mut [f32], &mut [f32]),
    ahead: [Ahead; 3],
) -> LaneSums<V> {
    let numbers = Numbers::<V>::of(maxima, setup, set);
    let mut sums = Partial::empty();
    let (s_whole, s_rest) = columns.student.as_chunks::<LANES>();
    let (t_whole, t_rest) = columns.teacher.as_chunks::<LANES>();
    let (es, et) = (es.as_chunks_mut().0, et.as_chunks_mut().0);
    let exps = es.iter_mut().zip(&mut *et);
    for (i, ((s, t), (es, et))) in s_whole.iter().zip(t_whole).zip(exps).enumerate() {
        if i % VECTORS_PER_PARTIAL_SUM == 0 {
            sums.fold(set);
        }
        ahead.iter().for_each(|ahead| ahead.ask::<V>(i));
        let (p, q) = sums.add(T::load(s), T::load(t), &numbers, set);
        p.store(es);
        q.store(et);
    }
    // In WebAssembly all columns are whole vectors, for the size of a module.
    if !s_rest.is_empty() && !cfg!(target_arch = "wasm32") {
        let last = s_whole.len();
        let [s_padding, t_padding] = columns.padding;
        let s = T::load_part::<V>(s_rest).filled_from(s_rest.len(), s_padding);
        let t = T::load_part::<V>(t_rest).filled_from(t_rest.len(), t_padding);
        // As for whole vectors: the sums of a row do not depend on its storage.
        if last % VECTORS_PER_PARTIAL_SUM == 0 {
            sums.fold(set);
        }
        let (p, q) = sums.add(s, t, &numbers, set);
        p.store(&mut es[last]);
        q.store(&mut et[last]);
    }
    sums.finish(set)
}

/// The numbers of a row that the sums use.
struct Numbers<V> {
    student_max: V,
    teacher_max: V,
    student_log2: V,
    teacher_log2: V,
    hard_log2: V,
    /// Exponents of teacher and student in the powers, and their sum.
    exponents: [V; 3],
    halves: Option<[u32; 3]>,
    /// The powers of the two normalisers' sums are the exponentials.
    plain: bool,
}

impl<V: Vector> Numbers<V> {
    #[inline(always)]
    fn of((student_max, teacher_max): (f32, f32), setup: &Setup<'_>, set: Moments) -> Self {
        let [u, v] = setup.rule.shape_numbers;
        Self {
            student_max: V::splat(student_max),
            teacher_max: V::splat(teacher_max),
            student_log2: V::splat(setup.student_log2),
            teacher_log2: V::splat(setup.teacher_log2),
            hard_log2: V::splat(setup.hard_log2),
            exponents: [u, v, u + v].map(V::splat),
            halves: halves(u, v).filter(|_| !set.has(Moment::PowerDifference)),
            plain: u + v == 1.0,
        }
    }

    /// The power of an exponential, with both exponents, whose binary logarithm is `log`.
    #[inline(always)]
    fn power(&self, x: V, log: V) -> V {
        match self.halves {
            _ if self.plain => x,
            Some([.., both]) => half_power(x, both),
            None => log.mul(self.exponents[2]).exp2(),
        }
    }
}

/// Sums of the vectors so far. The compiler keeps those of the set in registers.
struct Partial<V> {
    student: V,
    teacher: V,
    sums: [V; Moment::ALL.len()],
    /// Those of the last few vectors, of student, teacher and moments that are sums of exponentials.
    last_student: V,
    last_teacher: V,
    last: [V; Moment::ALL.len()],
}

impl<V: Vector> Partial<V> {
    #[inline(always)]
    fn empty() -> Self {
        let zero = V::splat(0.0);
        Self {
            student: zero,
            teacher: zero,
            sums: [zero; Moment::ALL.len()],
            last_student: zero,
            last_teacher: zero,
            last: [zero; Moment::ALL.len()],
        }
    }

    /// Adds the sums of the last few vectors to those before.
    #[inline(always)]
    fn fold(&mut self, set: Moments) {
        let zero = V::splat(0.0);
        self.student = self.student.add(self.last_student);
        self.teacher = self.teacher.add(self.last_teacher);
        [self.last_student, self.last_teacher] = [zero; 2];
        macro_rules! fold {
            ($($moment:ident)*) => {
                $( if set.has(Moment::$moment) {
                    let at = Moment::$moment as usize;
                    self.sums[at] = self.sums[at].add(self.last[at]);
                    self.last[at] = zero;
                } )*
            };
        }
        fold!(HardSum TeacherHardSum PowerCross StudentPower TeacherPower);
    }

    /// Adds a vector of each row. Returns their exponentials.
    #[inline(always)]
    fn add(&mut self, s: V, t: V, numbers: &Numbers<V>, set: Moments) -> (V, V) {
        let s = s.sub(numbers.student_max);
        let t = t.sub(numbers.teacher_max);
        let (ds, dt) = (s.mul(numbers.student_log2), t.mul(numbers.teacher_log2));
        let (p, q) = (ds.exp2(), dt.exp2());
        self.last_student = self.last_student.add(p);
        self.last_teacher = self.last_teacher.add(q);
        macro_rules! add {
            ($($moment:ident: $weight:expr, $factor:expr;)*) => {
                $( if set.has(Moment::$moment) {
                    let sum = &mut self.sums[Moment::$moment as usize];
                    *sum = $weight.mul_add($factor, *sum);
                } )*
            };
        }
        add! {
            Difference: q, dt.sub(ds);
            TeacherMoment: q, dt;
            SoftMoment: q, ds;
            Cross: p, q;
            StudentSquare: p, p;
            TeacherSquare: q, q;
            ReverseDifference: p, ds.sub(dt);
            StudentMoment: p, ds;
        }
        macro_rules! add_exponentials {
            ($($moment:ident: $weight:expr;)*) => {
                $( if set.has(Moment::$moment) {
                    let sum = &mut self.last[Moment::$moment as usize];
                    *sum = sum.add($weight);
                } )*
            };
        }
        add_exponentials! {
            HardSum: s.mul(numbers.hard_log2).exp2();
            TeacherHardSum: t.mul(numbers.hard_log2).exp2();
            StudentPower: numbers.power(p, ds);
            TeacherPower: numbers.power(q, dt);
        }
        if set.has(Moment::RootCross) {
            let sum = &mut self.sums[Moment::RootCross as usize];
            *sum = sum.add(p.mul(q).sqrt());
        }
        if set.has(Moment::PowerCross) || set.has(Moment::PowerDifference) {
            let [u, v, _] = numbers.exponents;
            let x = match numbers.halves {
                Some([u, v, _]) => half_power(q, u).mul(half_power(p, v)),
                None => dt.mul_add(u, ds.mul(v)).exp2(),
            };
            add_exponentials!(PowerCross: x;);
            add!(PowerDifference: x, dt.sub(ds););
        }
        (p, q)
    }

    #[inline(always)]
    fn finish(mut self, set: Moments) -> LaneSums<V> {
        self.fold(set);
        macro_rules! moments {
            ($($moment:ident)*) => {
                [$( (Moment::$moment, self.sums[Moment::$moment as usize]) ),*]
            };
        }
        LaneSums {
            student: self.student,
            teacher: self.teacher,
            moments: moments!(
                Difference SoftMoment Cross StudentSquare TeacherSquare RootCross HardSum
                TeacherMoment ReverseDifference StudentMoment TeacherHardSum
                PowerCross PowerDifference StudentPower TeacherPower
            ),
        }
    }
}
