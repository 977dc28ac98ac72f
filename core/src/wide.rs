//! `widest!`: functions compiled for any machine and for one with AVX2, with the same bits from both.
//!
//! AVX2 runs the same operations in the same order on wider registers: no fused multiply-add, no other order of a sum.
//! The only unsafe step is calling a function compiled for such registers after having asked the processor; whoever
//! uses the macro allows `unsafe_code` for it and marks what is to be compiled `#[inline(always)]`.

/// Makes `fn name(argument: Type, …) -> Type;` of `module::name`, which must be `#[inline(always)]` all the way down.
#[macro_export]
macro_rules! widest {
    ($module:ident: $($(#[$attr:meta])* fn $name:ident($($arg:ident: $kind:ty),* $(,)?) $(-> $out:ty)?;)*) => {$(
        $(#[$attr])*
        pub(crate) fn $name($($arg: $kind),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $kind),*) $(-> $out)? {
                    $module::$name($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: this processor has AVX2, as just asked; the function is safe otherwise.
                    return unsafe { avx2($($arg),*) };
                }
            }
            $module::$name($($arg),*)
        }
    )*};
}
