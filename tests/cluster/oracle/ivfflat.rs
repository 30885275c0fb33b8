//! IVFFlat.

use std::path::Path;

use half::f16;

use super::{PAGE, items, read, u16_at, u32_at};

const MAGIC: u32 = 0x14F_F1A7;

/// What the files hold.
#[derive(Debug)]
pub struct Lists {
    pub pages: i64,
    pub dimensions: i64,
    /// As many as the metapage says there are.
    pub announced: i64,
    /// What the operator class makes of values and distances.
    class: String,
    centers: Vec<Vec<f64>>,
    members: Vec<Vec<Vec<f64>>>,
}

/// The components of a value behind a length word of one byte or four; bits are 0 and 1.
fn components(kind: &str, bytes: &[u8]) -> Vec<f64> {
    let data = &bytes[if bytes[0] & 1 == 1 { 1 } else { 4 }..];
    let (count, body) = (u16_at(data, 0).into(), &data[4..]);
    match kind {
        "vector" => body
            .chunks_exact(4)
            .map(|c| f32::from_bits(u32_at(c, 0)).into())
            .take(count)
            .collect(),
        "halfvec" => body
            .chunks_exact(2)
            .map(|c| f16::from_bits(u16_at(c, 0)).into())
            .take(count)
            .collect(),
        "bit" => (0..u32_at(data, 0) as usize)
            .map(|bit| f64::from(body[bit / 8] >> (7 - bit % 8) & 1))
            .collect(),
        other => panic!("no IVFFlat index has values of type {other}"),
    }
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

impl Lists {
    /// Reads the index in `file` and its further segments.
    pub fn read(file: &Path, class: &str) -> Self {
        let bytes = read(file);
        assert_eq!(u32_at(&bytes, 24), MAGIC, "an IVFFlat index");
        let kind = class.split('_').next().expect("a name");
        let page = |block: u32| &bytes[block as usize * PAGE..][..PAGE];
        let mut lists = Self {
            pages: (bytes.len() / PAGE) as i64,
            dimensions: u16_at(&bytes, 32).into(),
            announced: u16_at(&bytes, 34).into(),
            class: class.to_owned(),
            centers: Vec::new(),
            members: Vec::new(),
        };
        let mut block = 1;
        while block != u32::MAX {
            for (_, list) in items(page(block)) {
                lists.centers.push(components(kind, &list[8..]));
                let (mut members, mut next) = (Vec::new(), u32_at(list, 0));
                while next != u32::MAX {
                    let entries = items(page(next));
                    members.extend(entries.iter().map(|(_, e)| components(kind, &e[8..])));
                    next = u32_at(page(next), PAGE - 8);
                }
                lists.members.push(members);
            }
            block = u32_at(page(block), PAGE - 8);
        }
        lists
    }

    /// Entries of each list.
    pub fn sizes(&self) -> Vec<f64> {
        self.members.iter().map(|m| m.len() as f64).collect()
    }

    /// By definition, distance by distance. Between bits the square of a difference is the difference.
    pub fn centroid_quality(&self) -> f64 {
        let (mut whole, mut removable) = (0.0, 0.0);
        for (center, members) in self.centers.iter().zip(&self.members) {
            let members: Vec<_> = members.iter().map(|member| self.seen(member)).collect();
            let cost = members.iter().map(|m| apart(m, center)).sum::<f64>();
            let moved = members.len() as f64 * apart(&self.mean(&members, center), center);
            whole += cost;
            removable += moved.min(cost);
        }
        if whole > 0.0 {
            1.0 - removable / whole
        } else {
            1.0
        }
    }

    /// A value as the operator class's own k-means sees it.
    fn seen(&self, value: &[f64]) -> Vec<f64> {
        let directions = self.class.contains("_ip_") || self.class.contains("_cosine_");
        let norm = apart(value, &vec![0.0; value.len()]).sqrt();
        let scale = if directions && norm > 0.0 { norm } else { 1.0 };
        value.iter().map(|x| x / scale).collect()
    }

    /// The mean of some values; of bits what most are, or what the centre is where as many are as are not.
    fn mean(&self, members: &[Vec<f64>], center: &[f64]) -> Vec<f64> {
        if members.is_empty() {
            return center.to_vec();
        }
        let mean = |place| members.iter().map(|m| m[place]).sum::<f64>() / members.len() as f64;
        let mean: Vec<f64> = (0..center.len()).map(mean).collect();
        if !self.class.starts_with("bit_") {
            return self.seen(&mean);
        }
        let majority =
            mean.iter().zip(center).map(
                |(&share, &center)| {
                    if share == 0.5 { center } else { share.round() }
                },
            );
        majority.collect()
    }
}
