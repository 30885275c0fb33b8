//! Numbers that are the same in every run.

/// xorshift64*.
pub struct Dice(u64);

impl Dice {
    /// Seeds that are close to each other give numbers that are not (the finalizer of SplitMix64).
    pub fn new(seed: u64) -> Self {
        let mut state = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        state = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ state >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self((state ^ state >> 31).max(1))
    }

    /// From 0 to 1, which is not reached.
    pub fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Close enough to normal: the sum of twelve uniforms (Irwin and Hall).
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// A point around the origin.
    pub fn point(&mut self, dimensions: usize) -> Vec<f64> {
        (0..dimensions).map(|_| self.normal()).collect()
    }

    /// One of the numbers below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.uniform() * limit as f64) as usize
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, several: &[T]) -> T {
        several[self.below(several.len())]
    }

    /// Whether something that happens with this probability does.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }
}
