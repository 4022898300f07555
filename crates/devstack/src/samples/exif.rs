//! Owns the writing of a small EXIF block (EXIF 2.32, TIFF 6.0): orientation, maker and place.

/// What the block says.
#[derive(Debug, Clone, Default)]
pub struct Exif {
    /// 1..=8; 0 leaves the tag out.
    pub orientation: u8,
    /// The camera's maker.
    pub make: Option<String>,
    /// The comment of whoever took it.
    pub description: Option<String>,
    /// Who took it.
    pub artist: Option<String>,
    /// Whose it is.
    pub copyright: Option<String>,
    /// Latitude and longitude in whole degrees.
    pub place: Option<(u8, u8)>,
}

const ASCII: u16 = 2;
const SHORT: u16 = 3;
const LONG: u16 = 4;
const RATIONAL: u16 = 5;

impl Exif {
    /// The block, beginning with the TIFF header, without the `Exif` marker of a JPEG segment.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut main = Directory::default();
        if let Some(text) = &self.description {
            main.ascii(0x010E, text);
        }
        if let Some(text) = &self.make {
            main.ascii(0x010F, text);
        }
        if self.orientation != 0 {
            main.entry(0x0112, SHORT, 1, u16::from(self.orientation).to_le_bytes().to_vec());
        }
        if let Some(text) = &self.artist {
            main.ascii(0x013B, text);
        }
        if let Some(text) = &self.copyright {
            main.ascii(0x8298, text);
        }
        let mut bytes = b"II*\0\x08\0\0\0".to_vec();
        match self.place {
            None => bytes.extend(main.to_bytes(8)),
            Some((latitude, longitude)) => {
                // The pointer has a fixed length, so the place of what it points to is known once it is there.
                let mut with_pointer = main.clone();
                with_pointer.entry(0x8825, LONG, 1, vec![0; 4]);
                let gps_at = 8 + with_pointer.to_bytes(8).len();
                let pointer = u32::try_from(gps_at).expect("the block is a few hundred bytes");
                main.entry(0x8825, LONG, 1, pointer.to_le_bytes().to_vec());
                bytes.extend(main.to_bytes(8));
                bytes.extend(place(latitude, longitude).to_bytes(gps_at));
            }
        }
        bytes
    }
}

fn place(latitude: u8, longitude: u8) -> Directory {
    let degrees = |degrees: u8| {
        let parts = [u32::from(degrees), 1, 30, 1, 0, 1];
        parts.iter().flat_map(|part| part.to_le_bytes()).collect::<Vec<u8>>()
    };
    let mut gps = Directory::default();
    gps.entry(0x0001, ASCII, 2, b"N\0".to_vec());
    gps.entry(0x0002, RATIONAL, 3, degrees(latitude));
    gps.entry(0x0003, ASCII, 2, b"E\0".to_vec());
    gps.entry(0x0004, RATIONAL, 3, degrees(longitude));
    gps
}

/// One image file directory: entries in ascending order of their tags.
#[derive(Clone, Default)]
struct Directory(Vec<(u16, u16, u32, Vec<u8>)>);

impl Directory {
    fn ascii(&mut self, tag: u16, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        let count = u32::try_from(bytes.len()).expect("a short text");
        self.entry(tag, ASCII, count, bytes);
    }

    fn entry(&mut self, tag: u16, kind: u16, count: u32, value: Vec<u8>) {
        self.0.push((tag, kind, count, value));
    }

    /// The directory as it stands `at` bytes after the TIFF header's first; values longer than four bytes follow it.
    fn to_bytes(&self, at: usize) -> Vec<u8> {
        let count = u16::try_from(self.0.len()).expect("a handful of entries");
        let mut head = count.to_le_bytes().to_vec();
        let mut values: Vec<u8> = Vec::new();
        let values_at = at + 2 + 12 * self.0.len() + 4;
        for (tag, kind, count, value) in &self.0 {
            head.extend(tag.to_le_bytes());
            head.extend(kind.to_le_bytes());
            head.extend(count.to_le_bytes());
            if value.len() <= 4 {
                head.extend(value.iter().copied().chain([0; 4]).take(4));
            } else {
                let offset = u32::try_from(values_at + values.len()).expect("a few hundred bytes");
                head.extend(offset.to_le_bytes());
                values.extend(value);
            }
        }
        head.extend([0; 4]);
        head.extend(values);
        head
    }
}
