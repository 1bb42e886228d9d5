//! Rates over pictures: top-1, top-5, agreement with a reference, divergence of the probabilities.

use serde::Serialize;

use super::wilson;

/// Counts over labelled pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Accuracy {
    pictures: u64,
    top1: u64,
    top5: u64,
}

impl Accuracy {
    /// Adds one picture's logits.
    pub fn add(&mut self, logits: &[f32], class: usize) {
        let rank = rank_of(logits, class);
        self.pictures += 1;
        self.top1 += u64::from(rank == 0);
        self.top5 += u64::from(rank < 5);
    }

    /// Adds another count.
    pub fn merge(&mut self, other: &Self) {
        self.pictures += other.pictures;
        self.top1 += other.top1;
        self.top5 += other.top5;
    }

    /// Share of pictures whose class has the highest logit, 0 to 1.
    pub fn top1(&self) -> f64 {
        self.top1 as f64 / self.pictures.max(1) as f64
    }

    /// Share of pictures whose class is among the five highest.
    pub fn top5(&self) -> f64 {
        self.top5 as f64 / self.pictures.max(1) as f64
    }

    /// Pictures counted.
    pub fn pictures(&self) -> u64 {
        self.pictures
    }

    /// 95 % confidence intervals of [`top1`](Self::top1) and [`top5`](Self::top5).
    pub fn intervals(&self) -> [[f64; 2]; 2] {
        [self.top1, self.top5].map(|hits| wilson(hits, self.pictures))
    }
}

/// Sums over pictures of one network against another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Comparison {
    pictures: u64,
    agree: u64,
    kl: f64,
}

impl Comparison {
    /// Adds one picture: the reference's logits and the other's.
    pub fn add(&mut self, reference: &[f32], found: &[f32]) {
        let top = |logits: &[f32]| vgg_edge_engine::topk::top_k(logits, 1).first().map(|t| t.class);
        self.pictures += 1;
        self.agree += u64::from(top(reference) == top(found));
        self.kl += kl(reference, found);
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.pictures += other.pictures;
        self.agree += other.agree;
        self.kl += other.kl;
    }

    /// Share of pictures on which both name the same class first.
    pub fn agreement(&self) -> f64 {
        self.agree as f64 / self.pictures.max(1) as f64
    }

    /// 95 % confidence interval of [`agreement`](Self::agreement).
    pub fn interval(&self) -> [f64; 2] {
        wilson(self.agree, self.pictures)
    }

    /// Mean Kullback-Leibler divergence of the other's probabilities from the reference's, nats.
    pub fn mean_kl(&self) -> f64 {
        self.kl / self.pictures.max(1) as f64
    }
}

/// Accuracy of one network. Rates and the ends of their 95 % confidence intervals are 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// Share of pictures whose class comes first.
    pub top1: f64,
    /// Its interval.
    pub top1_interval: [f64; 2],
    /// Share of pictures whose class is among the first five.
    pub top5: f64,
    /// Its interval.
    pub top5_interval: [f64; 2],
}

impl From<&Accuracy> for Rates {
    fn from(a: &Accuracy) -> Self {
        let [top1_interval, top5_interval] = a.intervals();
        Self { top1: a.top1(), top1_interval, top5: a.top5(), top5_interval }
    }
}

/// Classes that come before `class`: a higher logit, or the same and a lower index.
fn rank_of(logits: &[f32], class: usize) -> usize {
    let Some(own) = logits.get(class) else { return usize::MAX };
    logits.iter().enumerate().filter(|(i, l)| *l > own || (*l == own && *i < class)).count()
}

/// Kullback-Leibler divergence of the probabilities behind `found` from those behind `reference`, in nats:
/// `sum p * (log p - log q)`, in f64, from logits.
pub fn kl(reference: &[f32], found: &[f32]) -> f64 {
    let (p, q) = (log_softmax(reference), log_softmax(found));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

/// Logarithms of the probabilities behind logits.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().fold(f64::NEG_INFINITY, |m, &l| m.max(f64::from(l)));
    let sum: f64 = logits.iter().map(|&l| (f64::from(l) - max).exp()).sum();
    logits.iter().map(|&l| f64::from(l) - max - sum.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_break_ties_by_index() {
        let mut a = Accuracy::default();
        a.add(&[1.0, 1.0], 1);
        a.add(&[1.0, 1.0], 0);
        a.add(&[9.0, 8.0, 7.0, 6.0, 5.0, 4.0], 5);
        assert_eq!((a.top1() * 3.0, a.top5() * 3.0), (1.0, 2.0));
    }

    #[test]
    fn divergence_is_zero_for_shifted_logits_and_positive_for_others() {
        let mut c = Comparison::default();
        c.add(&[1.0, 2.0], &[11.0, 12.0]);
        assert!(c.mean_kl().abs() < 1e-12 && c.agreement() == 1.0);
        c.add(&[1.0, 2.0], &[2.0, 1.0]);
        assert!(c.mean_kl() > 0.2 && c.agreement() == 0.5);
    }
}
