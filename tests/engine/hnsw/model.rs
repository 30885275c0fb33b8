//! An HNSW index as a test describes it, and its pages as pgvector would write them. Written
//! from pgvector's own description of its format; shares no code with what is tested.

/// A page.
pub type Bytes = [u8; 8192];
/// Block and offset of an index tuple or a row.
pub type Place = (u32, u16);

/// A slot of a neighbour tuple.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Link {
    /// To an element of the model, by its number.
    To(usize),
    /// To any place at all.
    At(Place),
    /// An invalid slot.
    Hole,
}

/// How an element and its neighbour tuple belong together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tuple {
    /// On the same page if there is room, else the next.
    Near,
    /// At the end of the file.
    After,
    /// At the beginning of the file.
    Before,
    /// Of another use of the slot.
    OtherVersion,
    /// With one slot too many.
    OtherCount,
    /// Nowhere: the element points at a page that does not exist.
    Missing,
}

/// An element.
#[derive(Debug, Clone)]
pub struct El {
    pub level: u8,
    pub deleted: bool,
    pub version: u8,
    pub rows: Vec<Place>,
    /// Bytes of the value, its length word among them.
    pub value: usize,
    /// The components of the value, a `vector`; zeroes where there are none.
    pub components: Vec<f32>,
    /// The slots of each layer that are written, from the ground up; the rest is invalid.
    pub layers: Vec<Vec<Link>>,
    pub tuple: Tuple,
}

impl El {
    /// A live element with one row and these links on the ground layer.
    pub fn ground(row: u32, links: &[usize]) -> Self {
        Self::tall(row, &[links])
    }

    /// A live element with one row and these links, from the ground up.
    pub fn tall(row: u32, layers: &[&[usize]]) -> Self {
        let to = |links: &&[usize]| links.iter().map(|&i| Link::To(i)).collect();
        Self {
            level: layers.len() as u8 - 1,
            deleted: false,
            version: 1,
            rows: vec![(row, 1)],
            value: 24,
            components: Vec::new(),
            layers: layers.iter().map(to).collect(),
            tuple: Tuple::Near,
        }
    }

    /// The same with this value.
    pub fn valued(mut self, components: &[f32]) -> Self {
        self.value = 8 + 4 * components.len();
        self.components = components.to_vec();
        self
    }

    /// As vacuum leaves an element that it has deleted.
    pub fn deleted(mut self) -> Self {
        self.deleted = true;
        self.version += 1;
        self.rows.clear();
        self.layers.clear();
        self.components.clear();
        self
    }

    /// As the first pass of a vacuum leaves an element without rows.
    pub fn ghost(mut self) -> Self {
        self.rows.clear();
        self
    }
}

/// An index.
#[derive(Debug, Clone)]
pub struct Index {
    pub m: u16,
    pub elements: Vec<El>,
    /// The element every search starts from.
    pub entry: Option<Link>,
    /// Elements on a page, at most.
    pub per_page: usize,
}

/// What it looks like on disk.
#[derive(Debug, Clone)]
pub struct Built {
    pub pages: Vec<Bytes>,
    /// Where each element is.
    pub places: Vec<Place>,
}

impl Index {
    /// An index of these elements that starts from the first.
    pub fn new(m: u16, elements: Vec<El>) -> Self {
        let entry = (!elements.is_empty()).then_some(Link::To(0));
        Self {
            m,
            elements,
            entry,
            per_page: usize::MAX,
        }
    }

    fn slots(&self, el: &El) -> usize {
        (usize::from(el.level) + 2) * usize::from(self.m)
            + usize::from(el.tuple == Tuple::OtherCount)
    }

    /// Lays the index down.
    pub fn build(&self) -> Built {
        let mut file = File {
            pages: vec![blank(), blank()],
            on_page: 0,
        };
        let mut tuples = vec![(9_999_999, 1); self.elements.len()];
        let links_of = |el: &El| vec![0; 4 + 6 * self.slots(el)];

        for (i, el) in self
            .elements
            .iter()
            .enumerate()
            .filter(|(_, el)| el.tuple == Tuple::Before)
        {
            tuples[i] = file.add(&links_of(el));
        }
        let mut places = Vec::new();
        for (i, el) in self.elements.iter().enumerate() {
            let (element, links) = (vec![0; 72 + el.value], links_of(el));
            let together = el.tuple != Tuple::Before && el.tuple != Tuple::After;
            let both = round(element.len()) + round(links.len()) + 4;
            let lacks = |bytes| file.free() < bytes;
            if file.on_page >= self.per_page
                || lacks(round(element.len()))
                || together && both <= 8156 && lacks(both)
            {
                file.turn();
            }
            places.push(file.add(&element));
            file.on_page += 1;
            if together && el.tuple != Tuple::Missing {
                if file.free() < round(links.len()) {
                    file.turn();
                }
                tuples[i] = file.add(&links);
            }
        }
        if self.elements.iter().any(|el| el.tuple == Tuple::After) {
            file.turn();
        }
        for (i, el) in self
            .elements
            .iter()
            .enumerate()
            .filter(|(_, el)| el.tuple == Tuple::After)
        {
            tuples[i] = file.add(&links_of(el));
        }

        let mut pages = file.pages;
        for (i, el) in self.elements.iter().enumerate() {
            fill(&mut pages, places[i], &element_bytes(el, tuples[i]));
            if el.tuple != Tuple::Missing {
                fill(&mut pages, tuples[i], &self.links_bytes(el, &places));
            }
        }
        pages[0] = self.metapage(&places);
        Built { pages, places }
    }

    fn place(link: Link, places: &[Place]) -> Place {
        match link {
            Link::To(i) => places[i],
            Link::At(place) => place,
            Link::Hole => (u32::MAX, 0),
        }
    }

    fn links_bytes(&self, el: &El, places: &[Place]) -> Vec<u8> {
        let slots = self.slots(el);
        let mut bytes = vec![2, el.version + u8::from(el.tuple == Tuple::OtherVersion)];
        bytes.extend((slots as u16).to_le_bytes());
        for layer in (0..=el.level).rev() {
            let room = usize::from(self.m) * if layer == 0 { 2 } else { 1 };
            let links = el
                .layers
                .get(usize::from(layer))
                .map_or(&[][..], |links| links);
            assert!(links.len() <= room, "more links than slots");
            for n in 0..room {
                put(
                    &mut bytes,
                    Self::place(links.get(n).copied().unwrap_or(Link::Hole), places),
                );
            }
        }
        bytes.resize(4 + 6 * slots, 0);
        bytes
    }

    fn metapage(&self, places: &[Place]) -> Bytes {
        let mut page = blank();
        let entry = self
            .entry
            .map_or((u32::MAX, 0), |entry| Self::place(entry, places));
        let level = match self.entry {
            Some(Link::To(i)) => i16::from(self.elements[i].level),
            Some(_) => 0,
            None => -1,
        };
        let mut at = 24;
        let mut write = |bytes: &[u8]| {
            page[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        write(&0xA953_A953_u32.to_le_bytes());
        write(&1_u32.to_le_bytes());
        write(&3_u32.to_le_bytes());
        write(&self.m.to_le_bytes());
        write(&64_u16.to_le_bytes());
        write(&entry.0.to_le_bytes());
        write(&entry.1.to_le_bytes());
        write(&level.to_le_bytes());
        write(&1_u32.to_le_bytes());
        page[12..14].copy_from_slice(&52_u16.to_le_bytes());
        page
    }
}

/// Pages being written.
struct File {
    pages: Vec<Bytes>,
    on_page: usize,
}

impl File {
    fn turn(&mut self) {
        self.pages.push(blank());
        self.on_page = 0;
    }

    fn bounds(&self) -> (usize, usize) {
        let page = self.pages.last().expect("there is a page");
        let at = |i| usize::from(u16::from_le_bytes([page[i], page[i + 1]]));
        (at(12), at(14))
    }

    fn free(&self) -> usize {
        let (lower, upper) = self.bounds();
        (upper - lower).saturating_sub(4)
    }

    fn add(&mut self, tuple: &[u8]) -> Place {
        if self.free() < round(tuple.len()) {
            self.turn();
        }
        let (lower, upper) = self.bounds();
        let start = upper - round(tuple.len());
        let block = self.pages.len() as u32 - 1;
        let page = self.pages.last_mut().expect("there is a page");
        let pointer = start as u32 | 1 << 15 | (tuple.len() as u32) << 17;
        page[lower..lower + 4].copy_from_slice(&pointer.to_le_bytes());
        page[12..14].copy_from_slice(&(lower as u16 + 4).to_le_bytes());
        page[14..16].copy_from_slice(&(start as u16).to_le_bytes());
        page[start..start + tuple.len()].copy_from_slice(tuple);
        (block, ((lower - 24) / 4 + 1) as u16)
    }
}

fn round(bytes: usize) -> usize {
    bytes.div_ceil(8) * 8
}

fn blank() -> Bytes {
    let mut page = [0; 8192];
    page[12..14].copy_from_slice(&24_u16.to_le_bytes());
    page[14..16].copy_from_slice(&8184_u16.to_le_bytes());
    page[16..18].copy_from_slice(&8184_u16.to_le_bytes());
    page[18..20].copy_from_slice(&(8192_u16 | 4).to_le_bytes());
    page[8184..8188].copy_from_slice(&u32::MAX.to_le_bytes());
    page[8190..8192].copy_from_slice(&0xFF90_u16.to_le_bytes());
    page
}

fn put(bytes: &mut Vec<u8>, (block, offset): Place) {
    bytes.extend(((block >> 16) as u16).to_le_bytes());
    bytes.extend((block as u16).to_le_bytes());
    bytes.extend(offset.to_le_bytes());
}

fn element_bytes(el: &El, tuple: Place) -> Vec<u8> {
    let mut bytes = vec![1, el.level, u8::from(el.deleted), el.version];
    for n in 0..10 {
        put(&mut bytes, el.rows.get(n).copied().unwrap_or((u32::MAX, 0)));
    }
    put(&mut bytes, tuple);
    bytes.extend([0, 0]);
    let word = if el.deleted {
        0
    } else {
        (el.value as u32) << 2
    };
    bytes.extend(word.to_le_bytes());
    if !el.components.is_empty() {
        bytes.extend((el.components.len() as u32).to_le_bytes());
        bytes.extend(el.components.iter().flat_map(|x| x.to_le_bytes()));
    }
    bytes.resize(72 + el.value, 0);
    bytes
}

fn fill(pages: &mut [Bytes], (block, offset): Place, tuple: &[u8]) {
    let page = &mut pages[block as usize];
    let at = 24 + 4 * (usize::from(offset) - 1);
    let pointer = u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
    let start = (pointer & 0x7FFF) as usize;
    page[start..start + tuple.len()].copy_from_slice(tuple);
}
