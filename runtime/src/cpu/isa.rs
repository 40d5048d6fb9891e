//! The instruction sets that the kernels are compiled for, and the choice among them at run time.

use std::fmt;
use std::str::FromStr;

/// A level of vector instructions. Constants packed for one level serve all: layouts do not depend on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Isa {
    /// What every machine of the architecture has.
    Portable,
    /// 256-bit vectors: AVX2, FMA, F16C.
    Avx2,
    /// 512-bit vectors: AVX-512 F, BW, DQ, VL and VNNI, besides what [`Isa::Avx2`] has.
    Avx512,
}

/// Why a level cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// Not a level's name.
    #[error("unknown instruction set {0:?}: expected avx512, avx2 or portable")]
    Unknown(String),
    /// A level this machine does not have.
    #[error("this machine does not have the instruction set {0}; the best it has is {best}", best = Isa::detect())]
    Missing(Isa),
}

impl Isa {
    /// All levels, the lowest first.
    pub const ALL: [Isa; 3] = [Isa::Portable, Isa::Avx2, Isa::Avx512];

    /// The highest level that this machine has.
    pub fn detect() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)
    }

    /// The levels that this machine has, the lowest first.
    pub fn available() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// The level of that name (`avx512`, `avx2`, `portable`), if this machine has it.
    pub fn parse(name: &str) -> Result<Isa, IsaError> {
        let isa: Isa = name.parse()?;
        if isa.is_available() { Ok(isa) } else { Err(IsaError::Missing(isa)) }
    }

    /// Whether this machine can run the level.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Portable => true,
            Isa::Avx2 => has_avx2(),
            Isa::Avx512 => has_avx2() && has_avx512(),
        }
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Isa, IsaError> {
        match name {
            "portable" => Ok(Isa::Portable),
            "avx2" => Ok(Isa::Avx2),
            "avx512" => Ok(Isa::Avx512),
            _ => Err(IsaError::Unknown(name.to_owned())),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        })
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        assert_eq!(Isa::parse("sse9"), Err(IsaError::Unknown("sse9".into())));
        assert_eq!(Isa::parse("portable"), Ok(Isa::Portable));
        assert!(Isa::available().any(|isa| isa == Isa::detect()));
    }
}
