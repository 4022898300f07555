//! Owns the call of a libvips operation by its name.
//!
//! Options are checked against the running library before they are set, so a misspelt or newer option is a typed error
//! instead of a warning on stderr and a default nobody asked for.

use std::ffi::{CStr, c_int};

use libvips::bindings::{self, GType, GValue};

use super::error::VipsError;
use super::image::Image;
use super::source::Source;

/// GLib numbers its fundamental types in steps of four; these values are part of its ABI.
const TYPE_BOOLEAN: GType = 5 << 2;
const TYPE_INT: GType = 6 << 2;
const TYPE_DOUBLE: GType = 15 << 2;

/// A call being put together. Dropping it before it is run gives everything back.
pub(crate) struct Operation {
    raw: *mut bindings::VipsOperation,
    name: &'static str,
}

impl Operation {
    /// A call of the operation `name`, for instance `c"resize"`.
    pub(crate) fn new(name: &'static CStr) -> Result<Self, VipsError> {
        // SAFETY: the library is started before any `Engine`, and so any caller, exists; `name` is NUL-terminated.
        let raw = unsafe { bindings::vips_operation_new(name.as_ptr()) };
        let name = name.to_str().unwrap_or("operation");
        if raw.is_null() { Err(VipsError::take(name)) } else { Ok(Self { raw, name }) }
    }

    /// Sets an image argument; the operation keeps the image alive.
    pub(crate) fn image(self, option: &'static CStr, image: &Image) -> Result<Self, VipsError> {
        // SAFETY: plain type getter.
        let kind = unsafe { bindings::vips_image_get_type() };
        // SAFETY: the value is of the image type and takes its own reference to a live image.
        self.set(option, kind, |value| unsafe { bindings::g_value_set_object(value, image.as_ptr().cast()) })
    }

    /// Sets a source argument; the operation keeps the source, and so its bytes, alive.
    pub(crate) fn source(self, source: &Source) -> Result<Self, VipsError> {
        // SAFETY: plain type getter.
        let kind = unsafe { bindings::vips_source_get_type() };
        // SAFETY: the value is of the source type and takes its own reference to a live source.
        self.set(c"source", kind, |value| unsafe { bindings::g_value_set_object(value, source.as_ptr().cast()) })
    }

    /// Sets a number.
    pub(crate) fn double(self, option: &'static CStr, number: f64) -> Result<Self, VipsError> {
        // SAFETY: the value is of the type that is set.
        self.set(option, TYPE_DOUBLE, |value| unsafe { bindings::g_value_set_double(value, number) })
    }

    /// Sets a whole number.
    pub(crate) fn int(self, option: &'static CStr, number: i32) -> Result<Self, VipsError> {
        // SAFETY: the value is of the type that is set.
        self.set(option, TYPE_INT, |value| unsafe { bindings::g_value_set_int(value, number) })
    }

    /// Sets a switch.
    pub(crate) fn flag(self, option: &'static CStr, on: bool) -> Result<Self, VipsError> {
        // SAFETY: the value is of the type that is set.
        self.set(option, TYPE_BOOLEAN, |value| unsafe { bindings::g_value_set_boolean(value, c_int::from(on)) })
    }

    /// Sets a list of numbers, such as a colour.
    pub(crate) fn doubles(self, option: &'static CStr, numbers: &[f64]) -> Result<Self, VipsError> {
        let count = c_int::try_from(numbers.len()).map_err(|_| VipsError::new(self.name, "too many numbers"))?;
        // SAFETY: plain type getter.
        let kind = unsafe { bindings::vips_array_double_get_type() };
        // SAFETY: the value is of the array type and copies `count` numbers out of the slice.
        self.set(option, kind, |value| unsafe {
            bindings::vips_value_set_array_double(value, numbers.as_ptr(), count);
        })
    }

    /// Sets a list of images; the operation keeps them alive.
    pub(crate) fn images(self, option: &'static CStr, images: &[Image]) -> Result<Self, VipsError> {
        let count = c_int::try_from(images.len()).map_err(|_| VipsError::new(self.name, "too many images"))?;
        let pointers: Vec<_> = images.iter().map(Image::as_ptr).collect();
        // SAFETY: plain type getter.
        let kind = unsafe { bindings::vips_array_image_get_type() };
        // SAFETY: the value is of the array type; it makes `count` empty places, and each is given an image and a reference of
        // its own to it, which the array gives back when it goes.
        self.set(option, kind, |value| unsafe {
            bindings::vips_value_set_array_image(value, count);
            let places = bindings::vips_value_get_array_image(value, std::ptr::null_mut());
            for (index, image) in pointers.iter().enumerate() {
                bindings::g_object_ref(image.cast());
                *places.add(index) = *image;
            }
        })
    }

    /// Sets an option from text: a name out of an enumeration (`c"attention"`), a built-in profile's name.
    pub(crate) fn text(self, option: &'static CStr, text: &'static CStr) -> Result<Self, VipsError> {
        self.find(option)?;
        // SAFETY: both strings are NUL-terminated, and the operation is live and not built yet.
        let failed =
            unsafe { bindings::vips_object_set_argument_from_string(self.raw.cast(), option.as_ptr(), text.as_ptr()) };
        if failed == 0 { Ok(self) } else { Err(VipsError::take(self.name)) }
    }

    /// Runs the operation and returns its image `out`, which is usually not computed yet.
    pub(crate) fn run(self) -> Result<Image, VipsError> {
        let name = self.name;
        self.run_for(c"out", |value| {
            // SAFETY: the value holds an object of the image type; this adds a reference for us.
            let image = unsafe { bindings::g_value_dup_object(value) };
            Image::from_raw(image.cast(), name)
        })?
    }

    /// Runs a saver and returns what it wrote, which computes every pixel.
    pub(crate) fn run_to_buffer(self) -> Result<Vec<u8>, VipsError> {
        let name = self.name;
        self.run_for(c"buffer", |value| {
            // SAFETY: the value holds a blob, which it keeps alive while it is read.
            let blob = unsafe { bindings::g_value_get_boxed(value) };
            if blob.is_null() {
                return Err(VipsError::new(name, "no output"));
            }
            let mut length = 0;
            // SAFETY: `blob` is a live blob; its length is written.
            let data = unsafe { bindings::vips_blob_get(blob.cast(), &raw mut length) };
            let length = usize::try_from(length).map_err(|_| VipsError::new(name, "output too long"))?;
            if data.is_null() || length == 0 {
                return Err(VipsError::new(name, "empty output"));
            }
            // A copy, because the blob has grown by doubling: what is cached must weigh what it says.
            // SAFETY: the blob holds `length` initialised bytes and outlives the slice.
            Ok(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) }.to_vec())
        })?
    }

    /// Runs an operation for one number, for instance an image's minimum.
    pub(crate) fn run_to_double(self) -> Result<f64, VipsError> {
        // SAFETY: the value is of the double type.
        self.run_for(c"out", |value| unsafe { bindings::g_value_get_double(value) })
    }

    fn run_for<T>(mut self, output: &'static CStr, read: impl FnOnce(&GValue) -> T) -> Result<T, VipsError> {
        self.build()?;
        self.output(output, read)
    }

    fn build(&mut self) -> Result<(), VipsError> {
        // SAFETY: the operation is live and owned; on success it may be swapped for an equal one that we then own instead.
        if unsafe { bindings::vips_cache_operation_buildp(&raw mut self.raw) } == 0 {
            return Ok(());
        }
        Err(VipsError::take(self.name))
    }

    /// Reads an output of the built operation.
    fn output<T>(&self, output: &'static CStr, read: impl FnOnce(&GValue) -> T) -> Result<T, VipsError> {
        let kind = self.find(output)?;
        let mut value = EMPTY_VALUE;
        // SAFETY: `value` is zeroed as GLib asks, `kind` is the property's own type, and the value is unset once, below.
        let result = unsafe {
            bindings::g_value_init(&raw mut value, kind);
            bindings::g_object_get_property(self.raw.cast(), output.as_ptr(), &raw mut value);
            let result = read(&value);
            bindings::g_value_unset(&raw mut value);
            result
        };
        Ok(result)
    }

    /// The type of the property `option`, or an error if this library's operation has none of that name.
    fn find(&self, option: &'static CStr) -> Result<GType, VipsError> {
        // SAFETY: a GObject begins with the pointer to its class; the lookup only reads it.
        let spec = unsafe {
            let class = (*self.raw.cast::<bindings::GTypeInstance>()).g_class;
            bindings::g_object_class_find_property(class.cast(), option.as_ptr())
        };
        if spec.is_null() {
            let text = format!("no option {}", option.to_string_lossy());
            return Err(VipsError::new(self.name, &text));
        }
        // SAFETY: `spec` is a live property description owned by the class.
        Ok(unsafe { (*spec).value_type })
    }

    fn set(self, option: &'static CStr, kind: GType, fill: impl FnOnce(*mut GValue)) -> Result<Self, VipsError> {
        self.find(option)?;
        let mut value = EMPTY_VALUE;
        // SAFETY: `value` is zeroed as GLib asks, filled by the caller according to `kind`, copied by the property and
        // unset once.
        unsafe {
            bindings::g_value_init(&raw mut value, kind);
            fill(&raw mut value);
            bindings::g_object_set_property(self.raw.cast(), option.as_ptr(), &raw const value);
            bindings::g_value_unset(&raw mut value);
        }
        Ok(self)
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        // SAFETY: the operation is live; its outputs, if built, hold a reference each until told to let go, and then the
        // one reference this value owns is given back.
        unsafe {
            bindings::vips_object_unref_outputs(self.raw.cast());
            bindings::g_object_unref(self.raw.cast());
        }
    }
}

/// As GLib asks of a value before its first use.
pub(super) const EMPTY_VALUE: GValue = GValue { g_type: 0, data: [bindings::_GValue__bindgen_ty_1 { v_uint64: 0 }; 2] };
