//! The file of an HNSW index, to be damaged while no server runs.
#![allow(
    dead_code,
    reason = "each target that includes this module uses a part of it"
)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};

const PAGE: usize = 8192;

/// Block and offset number of an item.
pub type Place = (u32, u16);

/// A file in memory; written back when it goes.
pub struct File {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Drop for File {
    fn drop(&mut self) {
        std::fs::write(&self.path, &self.bytes).expect("the file can be written");
    }
}

impl File {
    pub fn open(path: &Path) -> Self {
        Self {
            path: path.into(),
            bytes: std::fs::read(path).expect("the file of an index"),
        }
    }

    pub fn blocks(&self) -> u32 {
        (self.bytes.len() / PAGE) as u32
    }

    pub fn page(&mut self, block: u32) -> &mut [u8] {
        &mut self.bytes[block as usize * PAGE..][..PAGE]
    }

    pub fn m(&self) -> usize {
        usize::from(self.u16_at(0, 36))
    }

    fn u16_at(&self, block: u32, at: usize) -> u16 {
        let at = block as usize * PAGE + at;
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    /// Where the bytes of an item begin on its page.
    fn start(&self, (block, offset): Place) -> usize {
        usize::from(self.u16_at(block, 24 + 4 * (usize::from(offset) - 1)) & 0x7FFF)
    }

    /// The bytes of an item, from its first to the end of its page.
    pub fn item(&mut self, place: Place) -> &mut [u8] {
        let start = self.start(place);
        &mut self.page(place.0)[start..]
    }

    fn look(&self, place: Place) -> &[u8] {
        &self.bytes[place.0 as usize * PAGE + self.start(place)..]
    }

    pub fn place_at(&self, place: Place, at: usize) -> Place {
        read_place(&self.look(place)[at..])
    }

    pub fn put_place(&mut self, place: Place, at: usize, value: Place) {
        let bytes = write_place(value);
        self.item(place)[at..at + 6].copy_from_slice(&bytes);
    }

    /// Elements that are not deleted, in file order.
    pub fn live(&self) -> Vec<Place> {
        self.elements()
            .filter(|place| self.look(*place)[2] == 0)
            .collect()
    }

    pub fn deleted(&self) -> Vec<Place> {
        self.elements()
            .filter(|place| self.look(*place)[2] != 0)
            .collect()
    }

    fn elements(&self) -> impl Iterator<Item = Place> + '_ {
        (1..self.blocks())
            .flat_map(|block| {
                let pointers = (self.u16_at(block, 12) - 24) / 4;
                (1..=pointers).map(move |offset| (block, offset))
            })
            .filter(|place| self.look(*place)[0] == 1)
    }

    pub fn level(&self, element: Place) -> u8 {
        self.look(element)[1]
    }

    /// The neighbour tuple of an element.
    pub fn tuple(&self, element: Place) -> Place {
        self.place_at(element, 64)
    }

    /// Where in its neighbour tuple an element's links of a layer begin.
    pub fn slot(&self, element: Place, layer: u8) -> usize {
        4 + 6 * self.m() * usize::from(self.level(element) - layer)
    }

    /// The links of an element on a layer.
    pub fn links(&self, element: Place, layer: u8) -> Vec<Place> {
        let (tuple, slot) = (self.tuple(element), self.slot(element, layer));
        let room = if layer == 0 { 2 * self.m() } else { self.m() };
        let link = |nth| self.place_at(tuple, slot + 6 * nth);
        (0..room).map(link).take_while(|link| link.1 != 0).collect()
    }

    /// Gives an element these links on a layer and no others.
    pub fn set_links(&mut self, element: Place, layer: u8, links: &[Place]) {
        let (tuple, slot) = (self.tuple(element), self.slot(element, layer));
        let room = if layer == 0 { 2 * self.m() } else { self.m() };
        for nth in 0..room {
            let link = links.get(nth).copied().unwrap_or((u32::MAX, 0));
            self.put_place(tuple, slot + 6 * nth, link);
        }
    }

    /// Every so many elements of the ground layer, the entry point aside.
    pub fn ordinary(&self, every: usize) -> HashSet<Place> {
        let entry = self.entry();
        let live = self.live().into_iter();
        live.filter(|place| self.level(*place) == 0 && *place != entry)
            .step_by(every)
            .collect()
    }

    /// Takes the links to these elements out of all others for which `of` holds.
    pub fn cut(&mut self, which: &HashSet<Place>, of: impl Fn(Place) -> bool) {
        for element in self.live().into_iter().filter(|&element| of(element)) {
            for layer in 0..=self.level(element) {
                let mut links = self.links(element, layer);
                let count = links.len();
                links.retain(|link| !which.contains(link));
                if links.len() < count {
                    self.set_links(element, layer, &links);
                }
            }
        }
    }

    pub fn entry(&self) -> Place {
        let block = u32::from_le_bytes(self.bytes[40..44].try_into().expect("4 bytes"));
        (block, self.u16_at(0, 44))
    }
}

fn read_place(bytes: &[u8]) -> Place {
    let half = |at: usize| u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    (half(0) << 16 | half(2), half(4) as u16)
}

fn write_place((block, offset): Place) -> [u8; 6] {
    let mut bytes = [0; 6];
    bytes[..2].copy_from_slice(&((block >> 16) as u16).to_le_bytes());
    bytes[2..4].copy_from_slice(&(block as u16).to_le_bytes());
    bytes[4..].copy_from_slice(&offset.to_le_bytes());
    bytes
}
