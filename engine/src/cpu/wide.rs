//! The kernels of `kernels.rs` and `product.rs`, each compiled for this machine's widest useful registers and for any
//! machine.
//!
//! AVX2 runs the same operations in the same order on wider registers (no fused multiply-add), so both give the same
//! bits; so do AVX2 and AVX-512 with fused multiply-add for the products. The only unsafe step is calling a function
//! compiled for such registers after having asked the processor.
#![allow(unsafe_code)]

use super::kernels::{self, Heads};
use super::product::{self, Panels, Room};
use crate::adam::AdamStep;

macro_rules! widest {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $kind:ty),* $(,)?) $(-> $out:ty)?;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name($($arg: $kind),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $kind),*) $(-> $out)? {
                    kernels::$name($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: this processor has AVX2, as just asked; the function is safe otherwise.
                    return unsafe { avx2($($arg),*) };
                }
            }
            kernels::$name($($arg),*)
        }
    )*};
}

widest! {
    fn norm(x: &[f32], gain: &[f32], out: &mut [f32], inverse: &mut [f32]);
    fn add_norm(x: &[f32], delta: &[f32], sum: &mut [f32], gain: &[f32], out: &mut [f32], inverse: &mut [f32]);
    fn norm_back(dout: &[f32], x: &[f32], inverse: &[f32], gain: &[f32], dx: &mut [f32], dgain: &mut [f32]);
    fn turn(heads: Heads, qkv: &[f32], gains: &[f32], angles: &[f32], turned: &mut [f32], inverse: &mut [f32]);
    #[allow(clippy::too_many_arguments)]
    fn turn_back(
        heads: Heads, grads: [&[f32]; 3], qkv: &[f32], gains: &[f32], angles: &[f32], inverse: &[f32],
        dqkv: &mut [f32], dgains: &mut [f32],
    );
    fn attend(size: usize, query: &[f32], keys: &[f32], values: &[f32], scores: &mut [f32], out: &mut [f32]);
    fn highest(row: &[f32]) -> f32;
    fn gate(gate_up: &[f32], ffn: usize, out: &mut [f32]);
    fn gate_back(dout: &[f32], gate_up: &[f32], ffn: usize, dgate_up: &mut [f32]);
    fn cross_entropy(logits: &mut [f32], vocab: usize, targets: &[u16], scale: f32) -> f64;
    fn add(into: &mut [f32], from: &[f32]);
    fn squares(x: &[f32]) -> f64;
    fn adam(step: AdamStep, gradient: &[f32], mean: &mut [f32], square: &mut [f32], weights: &mut [f32]);
}

/// [`product::multiply`].
pub(super) fn multiply(matrix: &Panels, rows: &[f32], room: &mut Room, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl")]
        fn avx512(matrix: &Panels, rows: &[f32], room: &mut Room, out: &mut [f32]) {
            product::multiply::<true>(matrix, rows, room, out);
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2(matrix: &Panels, rows: &[f32], room: &mut Room, out: &mut [f32]) {
            product::multiply::<true>(matrix, rows, room, out);
        }
        if std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512vl") {
            // SAFETY: this processor has them, as just asked; the function is safe otherwise.
            return unsafe { avx512(matrix, rows, room, out) };
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            return unsafe { avx2(matrix, rows, room, out) };
        }
    }
    // Fused multiply-add without an instruction for it would be a call for every number.
    product::multiply::<{ cfg!(target_arch = "aarch64") }>(matrix, rows, room, out);
}
