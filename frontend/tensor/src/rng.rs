//! Random numbers: a counter-based generator, so that element `i` of a stream is computed without its predecessors.
//!
//! Word `i` of the stream `seed` is the SplitMix64 output (Steele, Lea, Flood, "Fast splittable pseudorandom number
//! generators", 2014) of state `mix(seed) + (i + 1)·γ`. A uniform number takes the top bits of one word; a normal one is
//! `√(-2·ln(1 - u))·cos(2πv)` (Box and Muller) of the uniform numbers u and v of the words `2i` and `2i + 1`.

use crate::DType;

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Word `index` of the stream `seed`.
pub fn word(seed: i64, index: u64) -> u64 {
    mix(mix(seed as u64).wrapping_add(index.wrapping_add(1).wrapping_mul(GAMMA)))
}

/// Element `index` of the uniform stream: in [0, 1), exactly representable in `dtype` (so that rounding cannot give 1).
pub fn uniform(dtype: DType, seed: i64, index: u64) -> f64 {
    let bits = match dtype {
        DType::F64 => 53,
        DType::F16 => 11,
        DType::BF16 => 8,
        _ => 24,
    };
    (word(seed, index) >> (64 - bits)) as f64 / (1u64 << bits) as f64
}

/// Element `index` of the standard normal stream, before rounding to an element type.
pub fn normal(seed: i64, index: u64) -> f64 {
    let u = uniform(DType::F64, seed, index.wrapping_mul(2));
    let v = uniform(DType::F64, seed, index.wrapping_mul(2).wrapping_add(1));
    (-2.0 * (-u).ln_1p()).sqrt() * (std::f64::consts::TAU * v).cos()
}

fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Matsumoto and Nishimura's Mersenne Twister (ACM TOMACS 8, 1998), read as NumPy's `RandomState` does.
#[derive(Clone, Debug)]
pub struct Twister {
    state: Vec<u32>,
    at: usize,
    /// The second normal number of the last pair.
    spare: Option<f64>,
}

impl Twister {
    const WORDS: usize = 624;

    /// The generator of a seed.
    pub fn new(seed: u32) -> Twister {
        let mut state = Vec::with_capacity(Twister::WORDS);
        let mut word = seed;
        for place in 0..Twister::WORDS as u32 {
            state.push(word);
            word = (word ^ (word >> 30)).wrapping_mul(1_812_433_253).wrapping_add(place + 1);
        }
        Twister { state, at: Twister::WORDS, spare: None }
    }

    fn next_word(&mut self) -> u32 {
        if self.at == Twister::WORDS {
            for i in 0..Twister::WORDS {
                let joined = self.state[i] & 0x8000_0000 | self.state[(i + 1) % Twister::WORDS] & 0x7fff_ffff;
                let twisted = (joined >> 1) ^ if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + 397) % Twister::WORDS] ^ twisted;
            }
            self.at = 0;
        }
        let mut word = self.state[self.at];
        self.at += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// Uniform in [0, 1), of 53 bits.
    pub fn uniform(&mut self) -> f64 {
        let (high, low) = (self.next_word() >> 5, self.next_word() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// Standard normal: Marsaglia's polar method, two numbers at a time.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = x * x + y * y;
            if square < 1.0 && square != 0.0 {
                let factor = (-2.0 * square.ln() / square).sqrt();
                self.spare = Some(factor * x);
                return factor * y;
            }
        }
    }
}

/// A stream read in order, for generated tests and data.
#[derive(Clone, Debug)]
pub struct Stream {
    seed: i64,
    index: u64,
}

impl Stream {
    /// The stream `seed` from its start.
    pub fn new(seed: i64) -> Stream {
        Stream { seed, index: 0 }
    }

    /// The next word.
    pub fn next_word(&mut self) -> u64 {
        let value = word(self.seed, self.index);
        self.index += 1;
        value
    }

    /// The next number below `limit` (0 if the limit is 0).
    pub fn below(&mut self, limit: usize) -> usize {
        // The high half of a 128-bit product: no modulo bias worth mentioning.
        ((u128::from(self.next_word()) * limit as u128) >> 64) as usize
    }

    /// The next number in `low..high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next_word() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True once in `times`, on average.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of the items.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_have_the_moments_of_their_distribution() {
        let count = 20_000;
        for seed in [0, 1, -7] {
            let moments = |f: &dyn Fn(u64) -> f64| {
                let values: Vec<f64> = (0..count).map(f).collect();
                let mean = values.iter().sum::<f64>() / count as f64;
                (mean, values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count as f64)
            };
            let (mean, variance) = moments(&|i| uniform(DType::F32, seed, i));
            assert!((mean - 0.5).abs() < 0.01 && (variance - 1.0 / 12.0).abs() < 0.005, "{mean} {variance}");
            let (mean, variance) = moments(&|i| normal(seed, i));
            assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        }
    }

    #[test]
    fn the_generator_does_not_change() {
        assert_eq!(word(0, 0), mix(GAMMA));
        assert_ne!(word(1, 0), word(0, 1));
        assert!((0..10_000).all(|i| uniform(DType::BF16, 3, i) < 1.0));
    }
}
