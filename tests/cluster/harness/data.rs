//! The slice of real embeddings in `tests/data`.

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use half::f16;
use postgres::Client;

use super::locate::workspace;

/// Embeddings and the texts they were made of, row by row.
pub struct Embeddings {
    pub dimensions: usize,
    pub rows: Vec<Vec<f32>>,
    pub texts: Vec<String>,
}

impl Embeddings {
    /// 5,000 one-line descriptions of software packages.
    pub fn descriptions() -> Self {
        Self::read("package-descriptions")
    }

    /// 100 more of the same kind, to search with.
    pub fn queries() -> Self {
        Self::read("package-queries")
    }

    /// The rows of a file of NumPy's, without texts.
    pub fn read_vectors(path: &Path) -> Self {
        let (dimensions, rows) = read_npy(path);
        Self {
            dimensions,
            rows,
            texts: Vec::new(),
        }
    }

    fn read(name: &str) -> Self {
        let path = workspace().join("tests/data").join(name);
        let (dimensions, rows) = read_npy(&path.with_extension("npy"));
        let texts = std::fs::read_to_string(path.with_extension("txt"))
            .expect("the texts of the embeddings");
        let texts: Vec<_> = texts.lines().map(str::to_owned).collect();
        assert_eq!(texts.len(), rows.len(), "a text for each row of {name}");
        Self {
            dimensions,
            rows,
            texts,
        }
    }

    /// A row as pgvector reads it: `[0.1,0.2,…]`.
    pub fn literal(&self, row: usize) -> String {
        literal(&self.rows[row])
    }

    /// Copies rows into a table `(id, text, embedding)`, the row's number as its id; `table` may name the columns.
    pub fn copy_into(&self, client: &mut Client, table: &str, rows: Range<usize>) {
        let mut writer = client
            .copy_in(&format!("COPY {table} FROM STDIN"))
            .expect("COPY starts");
        for row in rows {
            let text = self.texts[row].replace('\\', "\\\\").replace('\t', "\\t");
            writeln!(writer, "{row}\t{text}\t{}", self.literal(row)).expect("COPY takes a row");
        }
        writer.finish().expect("COPY ends");
    }
}

/// A vector as pgvector reads it.
pub fn literal(vector: &[f32]) -> String {
    let numbers: Vec<_> = vector.iter().map(f32::to_string).collect();
    format!("[{}]", numbers.join(","))
}

/// Reads NumPy's format 1.0, two dimensions of little-endian float16, row by row.
fn read_npy(path: &Path) -> (usize, Vec<Vec<f32>>) {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rest = bytes
        .strip_prefix(b"\x93NUMPY\x01\x00")
        .expect("NumPy's format 1.0");
    let (length, rest) = rest.split_first_chunk::<2>().expect("a header's length");
    let (header, body) = rest.split_at(usize::from(u16::from_le_bytes(*length)));
    let header = std::str::from_utf8(header).expect("a header in ASCII");
    assert!(
        header.contains("'descr': '<f2'") && header.contains("'fortran_order': False"),
        "not float16: {header}"
    );
    let shape = header
        .split_once("'shape': (")
        .and_then(|(_, rest)| rest.split_once(')'))
        .expect("a shape")
        .0;
    let shape: Vec<usize> = shape
        .split(',')
        .map(|size| size.trim().parse().expect("a size"))
        .collect();
    let &[count, dimensions] = &shape[..] else {
        panic!("not two dimensions: {header}")
    };
    assert_eq!(
        body.len(),
        count * dimensions * 2,
        "as many numbers as the header says"
    );
    let (numbers, _) = body.as_chunks::<2>();
    let rows = numbers.chunks(dimensions).map(|row| {
        row.iter()
            .map(|&n| f16::from_le_bytes(n).to_f32())
            .collect()
    });
    (dimensions, rows.collect())
}
