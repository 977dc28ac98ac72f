//! The kernels of `kernels.rs`, `product.rs` and `kept.rs`, each compiled for this machine's widest useful registers and for any
//! machine.
//!
//! AVX2 gives the same bits as any machine ([`hydra_core::widest`]); so do AVX2 and AVX-512 with fused multiply-add for
//! the others. The only unsafe step is calling a function compiled for such registers after having asked the processor.
#![allow(unsafe_code, clippy::inline_always)]

use super::kept::{self, Kept};
use super::kernels::{self, Heads};
use super::product::{self, Blocks, LANES, Part};
use crate::adam::AdamStep;

hydra_core::widest! {
    kernels:
    fn norm(x: &[f32], gain: &[f32], out: &mut [f32], inverse: &mut [f32]);
    fn add_norm(x: &[f32], delta: &[f32], sum: &mut [f32], gain: &[f32], out: &mut [f32], inverse: &mut [f32]);
    fn norm_back(dout: &[f32], x: &[f32], inverse: &[f32], gain: &[f32], dx: &mut [f32], dgain: &mut [f32]);
    fn turn(heads: Heads, qkv: &[f32], gains: &[f32], angles: &[f32], turned: &mut [f32], inverse: &mut [f32]);
    #[allow(clippy::too_many_arguments)]
    fn turn_back(
        heads: Heads, grads: [&[f32]; 3], qkv: &[f32], gains: &[f32], angles: &[f32], inverse: &[f32],
        dqkv: &mut [f32], dgains: &mut [f32],
    );
    fn exp_all(row: &mut [f32]) -> f32;
    fn highest(row: &[f32]) -> f32;
    fn group_tops(row: &[f32], size: usize, tops: &mut Vec<f32>);
    fn gate(gate_up: &[f32], ffn: usize, out: &mut [f32]);
    fn gate_back(dout: &[f32], gate_up: &[f32], ffn: usize, dgate_up: &mut [f32]);
    fn cross_entropy(logits: &mut [f32], vocab: usize, targets: &[u16], scale: f32) -> f64;
    fn add(into: &mut [f32], from: &[f32]);
    fn squares(x: &[f32]) -> f64;
    fn adam(step: AdamStep, gradient: &[f32], mean: &mut [f32], square: &mut [f32], weights: &mut [f32]);
}

/// Sums of [`LANES`] numbers in a kind of registers, so that the compiler keeps them there.
pub(super) trait Registers {
    type Sums: Copy;
    /// Rows, at most, of which one or two panels' sums find room beside what is added.
    const ROWS: usize;
    /// Two panels' do for up to eight rows.
    const MANY: bool;
    fn zero() -> Self::Sums;
    /// `sums + x · weights`; rounded once where the processor can.
    fn add_scaled(sums: Self::Sums, x: f32, weights: &[f32; LANES]) -> Self::Sums;
    fn numbers(sums: Self::Sums) -> [f32; LANES];
    /// What lies so many times [`LANES`] numbers behind these will be read soon, if anything lies there.
    fn soon(_numbers: &[f32; LANES], _ahead: usize) {}
}

/// Those that every processor of this kind has.
enum Plain {}

impl Registers for Plain {
    type Sums = [f32; LANES];
    const ROWS: usize = 4;
    const MANY: bool = false;

    #[inline(always)]
    fn zero() -> Self::Sums {
        [0.0; LANES]
    }

    #[inline(always)]
    fn add_scaled(mut sums: Self::Sums, x: f32, weights: &[f32; LANES]) -> Self::Sums {
        for (sum, weight) in sums.iter_mut().zip(weights) {
            // Without an instruction for it, fused multiply-add would be a call for every number.
            *sum = if cfg!(target_arch = "aarch64") { x.mul_add(*weight, *sum) } else { x * weight + *sum };
        }
        sums
    }

    #[inline(always)]
    fn numbers(sums: Self::Sums) -> [f32; LANES] {
        sums
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _MM_HINT_T0, _mm_prefetch, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps,
        _mm256_storeu_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::{LANES, Registers};

    /// 32 registers of 16 numbers: AVX-512.
    pub(super) enum Avx512 {}

    /// 16 registers of 8 numbers: AVX2 with fused multiply-add.
    pub(super) enum Avx2 {}

    // SAFETY of all below: only functions compiled for such registers use these types (`widest_fused`), after having
    // asked the processor; what is loaded and stored is as long as the array that it lies in, and an address that is only
    // told of need not hold anything.
    impl Registers for Avx512 {
        type Sums = __m512;
        const ROWS: usize = 16;
        const MANY: bool = true;

        #[inline(always)]
        fn zero() -> Self::Sums {
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        fn add_scaled(sums: Self::Sums, x: f32, weights: &[f32; LANES]) -> Self::Sums {
            unsafe { _mm512_fmadd_ps(_mm512_set1_ps(x), _mm512_loadu_ps(weights.as_ptr()), sums) }
        }

        #[inline(always)]
        fn soon(numbers: &[f32; LANES], ahead: usize) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(numbers).wrapping_add(ahead).cast()) }
        }

        #[inline(always)]
        fn numbers(sums: Self::Sums) -> [f32; LANES] {
            let mut numbers = [0.0; LANES];
            unsafe { _mm512_storeu_ps(numbers.as_mut_ptr(), sums) };
            numbers
        }
    }

    impl Registers for Avx2 {
        type Sums = [__m256; 2];
        const ROWS: usize = 6;
        const MANY: bool = false;

        #[inline(always)]
        fn zero() -> Self::Sums {
            unsafe { [_mm256_setzero_ps(); 2] }
        }

        #[inline(always)]
        fn add_scaled([low, high]: Self::Sums, x: f32, weights: &[f32; LANES]) -> Self::Sums {
            let (halves, _) = weights.as_chunks::<{ LANES / 2 }>();
            unsafe {
                let x = _mm256_set1_ps(x);
                let add =
                    |sums, weights: &[f32; LANES / 2]| _mm256_fmadd_ps(x, _mm256_loadu_ps(weights.as_ptr()), sums);
                [add(low, &halves[0]), add(high, &halves[1])]
            }
        }

        #[inline(always)]
        fn soon(numbers: &[f32; LANES], ahead: usize) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(numbers).wrapping_add(ahead).cast()) }
        }

        #[inline(always)]
        fn numbers(sums: Self::Sums) -> [f32; LANES] {
            let mut numbers = [0.0; LANES];
            let (halves, _) = numbers.as_chunks_mut::<{ LANES / 2 }>();
            for (half, sums) in halves.iter_mut().zip(sums) {
                unsafe { _mm256_storeu_ps(half.as_mut_ptr(), sums) };
            }
            numbers
        }
    }
}

macro_rules! widest_fused {
    ($($(#[$doc:meta])* fn $room:ident::$name:ident($($arg:ident: $kind:ty),* $(,)?);)*) => {$(
        $(#[$doc])*
        pub(super) fn $name($($arg: $kind),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl")]
                fn avx512($($arg: $kind),*) {
                    $room::$name::<x86::Avx512>($($arg),*);
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $kind),*) {
                    $room::$name::<x86::Avx2>($($arg),*);
                }
                if std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512vl") {
                    // SAFETY: this processor has them, as just asked; the function is safe otherwise.
                    return unsafe { avx512($($arg),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                    // SAFETY: as above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            $room::$name::<Plain>($($arg),*);
        }
    )*};
}

widest_fused! {
    /// [`product::lay_out`].
    fn product::lay_out(rows: &[f32], inputs: usize, blocks: &mut Blocks);
    /// [`product::multiply`].
    fn product::multiply(matrix: Part<'_>, rows: &Blocks, out: &mut [f32]);
    /// [`kept::attend`].
    fn kept::attend(size: usize, query: &[f32], kept: &Kept, scores: &mut Vec<f32>, out: &mut [f32]);
}
