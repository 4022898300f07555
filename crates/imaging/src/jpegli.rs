//! Owns every call into jpegli, which writes JPEGs that any decoder reads with a tenth fewer bytes than libjpeg's at the
//! same look.
//!
//! Must not know transforms or metadata. Beside `vips` this is the only place that may hold `unsafe`.
#![allow(unsafe_code)]

use std::any::Any;
use std::ffi::{c_int, c_uchar, c_ulong};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;

use jpegli_sys as ffi;

/// Longest side that a JPEG can have, in pixels (ITU-T T.81 §B.2.2).
const SIDE_MAX: u32 = 65_535;

/// The version of libjpeg's interface that the bindings follow.
const INTERFACE_VERSION: c_int = 62;

/// What is written, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JpegSettings {
    /// Width in pixels.
    pub(crate) width: u32,
    /// Height in pixels.
    pub(crate) height: u32,
    /// Grey with one byte a pixel, else red, green and blue.
    pub(crate) is_grey: bool,
    /// jpegli's own number, 1..=100.
    pub(crate) quality: u8,
    /// Colours at the full resolution instead of half of it each way.
    pub(crate) full_colour: bool,
    /// In several passes, coarse to fine.
    pub(crate) progressive: bool,
}

impl JpegSettings {
    fn channels(&self) -> c_int {
        if self.is_grey { 1 } else { 3 }
    }
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
#[error("jpegli failed: {0}")]
pub(crate) struct JpegError(String);

/// A JPEG that is being written, row by row.
pub(crate) struct JpegWriter {
    settings: JpegSettings,
    state: Box<State>,
}

/// What the library points into; it never moves.
struct State {
    /// All zero until the library has made it.
    compress: ffi::jpegli_compress_struct,
    errors: ffi::jpegli_error_mgr,
    out: *mut c_uchar,
    out_bytes: c_ulong,
}

// The bindings leave this one out. The level is 0 for one pass, 2 for the most.
unsafe extern "C-unwind" {
    fn jpegli_set_progressive_level(compress: &mut ffi::jpegli_compress_struct, level: c_int);
}

impl JpegWriter {
    /// Begins a file of these settings.
    ///
    /// # Errors
    /// When there can be no such JPEG.
    pub(crate) fn new(settings: JpegSettings) -> Result<Self, JpegError> {
        let side = 1..=SIDE_MAX;
        if !side.contains(&settings.width) || !side.contains(&settings.height) {
            return Err(JpegError(format!("{} × {} pixels are no JPEG", settings.width, settings.height)));
        }
        // SAFETY: the structures are plain C data, for which all zero is valid; the library fills them in below.
        let state = unsafe {
            Box::new(State {
                compress: std::mem::zeroed(),
                errors: std::mem::zeroed(),
                out: ptr::null_mut(),
                out_bytes: 0,
            })
        };
        let mut writer = Self { settings, state };
        writer.guarded(|writer| writer.start())?;
        Ok(writer)
    }

    /// Writes the next rows.
    ///
    /// # Errors
    /// When one has another length than the settings say, or the library fails.
    pub(crate) fn write(&mut self, rows: &[&[u8]]) -> Result<(), JpegError> {
        let row = self.settings.width as usize * self.settings.channels() as usize;
        let left = self.state.compress.image_height - self.state.compress.next_scanline;
        if rows.len() > left as usize || rows.iter().any(|found| found.len() != row) {
            return Err(JpegError("these are not the rows of this picture".to_owned()));
        }
        let mut rows: Vec<*const u8> = rows.iter().map(|row| row.as_ptr()).collect();
        self.guarded(|writer| {
            let count = rows.len() as u32;
            // SAFETY: the writer was started; there are `count` pointers to rows of the length that it was told, which the
            // library only reads.
            let written =
                unsafe { ffi::jpegli_write_scanlines(&mut writer.state.compress, rows.as_mut_ptr().cast(), count) };
            if written != count {
                fail("it did not take all rows");
            }
        })
    }

    /// The file, once all rows were written.
    ///
    /// # Errors
    /// When rows are missing, or the library fails.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, JpegError> {
        self.guarded(|writer| {
            // SAFETY: the writer was started; without all rows the library calls `on_error`.
            unsafe { ffi::jpegli_finish_compress(&mut writer.state.compress) };
        })?;
        let bytes = usize::try_from(self.state.out_bytes).unwrap_or(0);
        if self.state.out.is_null() || bytes == 0 {
            return Err(JpegError("nothing was written".to_owned()));
        }
        // SAFETY: the library has written so many bytes there; they are copied, since its buffer has grown by doubling.
        Ok(unsafe { std::slice::from_raw_parts(self.state.out, bytes) }.to_vec())
    }

    fn start(&mut self) {
        let settings = self.settings;
        let State { compress, errors, out, out_bytes } = &mut *self.state;
        // SAFETY: the structures are those of the library's version, and live and stay in place as long as it uses them.
        // `comp_info` has `num_components` entries once the defaults are set. What fails calls `on_error`.
        unsafe {
            compress.common.err = ffi::jpegli_std_error(errors);
            errors.error_exit = Some(on_error);
            errors.emit_message = Some(on_message);
            errors.output_message = Some(on_error);
            ffi::jpegli_CreateCompress(compress, INTERFACE_VERSION, std::mem::size_of::<ffi::jpegli_compress_struct>());
            ffi::jpegli_mem_dest(compress, out, out_bytes);
            compress.image_width = settings.width;
            compress.image_height = settings.height;
            compress.input_components = settings.channels();
            compress.in_color_space = match settings.is_grey {
                true => ffi::J_COLOR_SPACE::JCS_GRAYSCALE,
                false => ffi::J_COLOR_SPACE::JCS_RGB,
            };
            ffi::jpegli_set_defaults(compress);
            if !settings.is_grey {
                let factor = if settings.full_colour { 1 } else { 2 };
                (*compress.comp_info).h_samp_factor = factor;
                (*compress.comp_info).v_samp_factor = factor;
            }
            ffi::jpegli_set_quality(compress, c_int::from(settings.quality.clamp(1, 100)), 1);
            jpegli_set_progressive_level(compress, if settings.progressive { 2 } else { 0 });
            compress.optimize_coding = 1;
            // What has no header is read as this too, but not by every decoder.
            compress.write_JFIF_header = 1;
            ffi::jpegli_start_compress(compress, 1);
        }
    }

    /// Runs `work`; what the library says is wrong comes out as an error.
    fn guarded(&mut self, work: impl FnOnce(&mut Self)) -> Result<(), JpegError> {
        catch_unwind(AssertUnwindSafe(|| work(self))).map_err(|cause| match cause.downcast::<Failure>() {
            Ok(failure) => JpegError(failure.0),
            // A panic of ours is none of the library's business.
            Err(panic) => resume_unwind(panic),
        })
    }
}

impl Drop for JpegWriter {
    fn drop(&mut self) {
        // SAFETY: destroying is allowed in every state, that of zeroes too. The buffer is the C allocator's, or null.
        unsafe {
            ffi::jpegli_destroy_compress(&mut self.state.compress);
            libc::free(self.state.out.cast());
        }
    }
}

/// What `on_error` unwinds with.
struct Failure(String);

fn fail(why: &str) -> ! {
    let failure: Box<dyn Any + Send> = Box::new(Failure(why.to_owned()));
    // Not a panic: nobody is to be told but the caller.
    resume_unwind(failure)
}

/// Must not return, so it unwinds through the library, which is C++.
extern "C-unwind" fn on_error(common: &mut ffi::jpegli_common_struct) {
    // SAFETY: the library hands over the structure whose errors were set in `start`.
    let code = unsafe { common.err.as_ref() }.map_or(0, |errors| errors.msg_code);
    fail(&format!("error {code}"));
}

extern "C-unwind" fn on_message(_common: &mut ffi::jpegli_common_struct, _level: c_int) {}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: JpegSettings =
        JpegSettings { width: 33, height: 21, is_grey: false, quality: 90, full_colour: true, progressive: false };

    fn written(settings: JpegSettings) -> Vec<u8> {
        let channels = settings.channels() as usize;
        let row: Vec<u8> = (0..settings.width as usize * channels).map(|at| (at / channels * 5) as u8).collect();
        let mut writer = JpegWriter::new(settings).expect("begins");
        for _ in 0..settings.height {
            writer.write(&[&row]).expect("takes a row");
        }
        writer.finish().expect("ends")
    }

    #[test]
    fn another_decoder_reads_what_is_written() {
        for settings in [
            SETTINGS,
            JpegSettings { full_colour: false, ..SETTINGS },
            JpegSettings { progressive: true, ..SETTINGS },
            JpegSettings { is_grey: true, ..SETTINGS },
            JpegSettings { width: 1, height: 1, ..SETTINGS },
        ] {
            let file = written(settings);
            let picture = image::load_from_memory_with_format(&file, image::ImageFormat::Jpeg).expect("decodes");
            assert_eq!((picture.width(), picture.height()), (settings.width, settings.height));
            assert_eq!(picture.color().has_color(), !settings.is_grey);
            for (x, _, pixel) in picture.to_rgb8().enumerate_pixels() {
                assert!(pixel.0.iter().all(|byte| byte.abs_diff((x * 5) as u8) < 12), "{settings:?}: {pixel:?} at {x}");
            }
        }
    }

    #[test]
    fn a_quality_is_worth_its_bytes() {
        let sizes = [5, 50, 80, 95].map(|quality| written(JpegSettings { quality, ..SETTINGS }).len());
        assert!(sizes.is_sorted() && sizes[0] < sizes[3], "{sizes:?}");
    }

    #[test]
    fn what_cannot_be_is_an_error_and_not_the_end() {
        assert!(JpegWriter::new(JpegSettings { width: 0, ..SETTINGS }).is_err());
        assert!(JpegWriter::new(JpegSettings { height: SIDE_MAX + 1, ..SETTINGS }).is_err());
        let mut writer = JpegWriter::new(SETTINGS).expect("begins");
        assert!(writer.write(&[&[0; 7]]).is_err(), "a short row");
        // The library itself finds out.
        assert!(writer.finish().is_err(), "no rows");
    }
}
