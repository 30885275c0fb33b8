//! Numbers drawn at random, the same for the same seed, and queries whose hits go together.

use ruvector_dag_healing_engine::recall::interval::QueryHits;

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(bound) * (self.next() >> 32)) >> 32) as u32
    }

    /// Above 0, below 1.
    pub fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let angle = std::f64::consts::TAU * self.uniform();
        (-2.0 * self.uniform().ln()).sqrt() * angle.cos()
    }

    /// Marsaglia and Tsang, 2000.
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            return self.gamma(shape + 1.0) * self.uniform().powf(1.0 / shape);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.uniform().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Of this mean, with the spread that gives hits this correlation within a query.
    pub fn beta(&mut self, mean: f64, correlation: f64) -> f64 {
        let weight = 1.0 / correlation - 1.0;
        let (a, b) = (self.gamma(mean * weight), self.gamma((1.0 - mean) * weight));
        a / (a + b)
    }

    pub fn binomial(&mut self, trials: u32, p: f64) -> u32 {
        (0..trials).map(|_| u32::from(self.chance(p))).sum()
    }

    /// Hits of k of one query, beta-binomial.
    pub fn query(&mut self, recall: f64, correlation: f64, k: u32) -> QueryHits {
        let own = self.beta(recall, correlation);
        QueryHits {
            hits: self.binomial(k, own),
            of: k,
        }
    }
}
