//! Decoding of images.
//!
//! BMP, PNG, PNM and WebP are decoded by the `image` crate, TIFF by `tiff`, JPEG 2000 by `hayro-jpeg2000`. JPEG is decoded here, bit for bit as
//! libjpeg does, which is what ONNX asks for and what no library in Rust does.

mod jpeg;
mod samples;

use image::{ImageDecoder, Limits};

use super::{Call, HostError};
use crate::Tensor;

/// Rows of pixels, three samples each.
struct Rgb {
    width: usize,
    height: usize,
    samples: Vec<u8>,
}

/// `[height, width, channels]` of an encoded image; what does not decode gives no pixels.
pub(super) fn decode(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let encoded = match (call.operands[0].as_slice::<u8>(), call.operands[0].shape()) {
        (Some(bytes), [_]) => bytes,
        _ => return Err(call.fault(format!("{:?} is no vector of bytes", call.operands[0]))),
    };
    let most = call.limit;
    let image = decoded(&encoded, most).filter(|image| image.samples.len() <= most);
    let image = image.unwrap_or(Rgb { width: 0, height: 0, samples: Vec::new() });
    let (channels, samples) = match call.int(0)? {
        0 => (3, image.samples),
        1 => (3, image.samples.chunks_exact(3).flat_map(|p| [p[2], p[1], p[0]]).collect()),
        _ => (1, image.samples.chunks_exact(3).map(luma).collect()),
    };
    call.made(Tensor::new(crate::DType::U8, &[image.height, image.width, channels], samples.into()))
}

/// ITU-R 601-2, in the integers of Pillow.
fn luma(pixel: &[u8]) -> u8 {
    let sum = u32::from(pixel[0]) * 19595 + u32::from(pixel[1]) * 38470 + u32::from(pixel[2]) * 7471;
    ((sum + 0x8000) >> 16) as u8
}

fn decoded(bytes: &[u8], most: usize) -> Option<Rgb> {
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        return jpeg::decode(bytes, most);
    }
    if bytes.starts_with(b"\0\0\0\x0cjP  \r\n\x87\n") || bytes.starts_with(&[0xff, 0x4f, 0xff, 0x51]) {
        return jpeg2000(bytes, most);
    }
    use image::{ImageFormat, codecs};
    let reader = std::io::Cursor::new(bytes);
    match image::guess_format(bytes).ok()? {
        ImageFormat::Bmp => pixels(codecs::bmp::BmpDecoder::new(reader).ok()?, most),
        ImageFormat::Png => pixels(codecs::png::PngDecoder::new(reader).ok()?, most),
        ImageFormat::Pnm => pixels(codecs::pnm::PnmDecoder::new(reader).ok()?, most),
        ImageFormat::Tiff => tiff(bytes, most),
        ImageFormat::WebP => pixels(codecs::webp::WebPDecoder::new(reader).ok()?, most),
        _ => None,
    }
}

/// The pixels of an image of 8 or 16 bits, without transparency. (The library's own conversion would bring its colour management.)
fn pixels(mut decoder: impl ImageDecoder, most: usize) -> Option<Rgb> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(most as u64);
    decoder.set_limits(limits).ok()?;
    let (width, height) = (decoder.dimensions().0 as usize, decoder.dimensions().1 as usize);
    let color = decoder.color_type();
    let (channels, bytes) = (usize::from(color.channel_count()), usize::from(color.bytes_per_pixel()));
    let width_of_sample = bytes.checked_div(channels)?;
    let size = width.checked_mul(height)?.checked_mul(bytes.max(3)).filter(|&size| size <= most)?;
    let mut data = vec![0; size / bytes.max(3) * bytes];
    decoder.read_image(&mut data).ok()?;
    let samples: Vec<u8> = match width_of_sample {
        1 => data,
        2 => data.chunks_exact(2).map(|s| narrowed(u16::from_ne_bytes([s[0], s[1]]))).collect(),
        _ => return None,
    };
    Some(rgb(width, height, channels, &samples))
}

/// A sample of 16 bits as one of 8.
fn narrowed(sample: u16) -> u8 {
    ((u32::from(sample) * 255 + 32767) / 65535) as u8
}

/// Pixels of one or three samples, with or without another one for transparency.
fn rgb(width: usize, height: usize, channels: usize, samples: &[u8]) -> Rgb {
    let three = |pixel: &[u8]| if channels < 3 { [pixel[0]; 3] } else { [pixel[0], pixel[1], pixel[2]] };
    Rgb { width, height, samples: samples.chunks_exact(channels).flat_map(three).collect() }
}

/// TIFF, read directly: not what the other library takes it for, of the ways to compress only those without a loss.
fn tiff(bytes: &[u8], most: usize) -> Option<Rgb> {
    use tiff::{
        ColorType,
        decoder::{Decoder, DecodingResult, Limits},
    };
    let mut limits = Limits::default();
    (limits.decoding_buffer_size, limits.intermediate_buffer_size) = (most, most);
    let mut decoder = Decoder::new(std::io::Cursor::new(bytes)).ok()?.with_limits(limits);
    let (width, height) = decoder.dimensions().ok()?;
    let (width, height) = (width as usize, height as usize);
    let channels = match decoder.colortype().ok()? {
        ColorType::Gray(8 | 16) => 1,
        ColorType::GrayA(8 | 16) => 2,
        ColorType::RGB(8 | 16) => 3,
        ColorType::RGBA(8 | 16) => 4,
        _ => return None,
    };
    width.checked_mul(height)?.checked_mul(4).filter(|&size| size <= most)?;
    let samples = match decoder.read_image().ok()? {
        DecodingResult::U8(samples) => samples,
        DecodingResult::U16(samples) => samples.into_iter().map(narrowed).collect(),
        _ => return None,
    };
    (samples.len() == width * height * channels).then(|| rgb(width, height, channels, &samples))
}

fn jpeg2000(bytes: &[u8], most: usize) -> Option<Rgb> {
    let image = hayro_jpeg2000::Image::new(bytes, &hayro_jpeg2000::DecodeSettings::default()).ok()?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let pixels = width.checked_mul(height).filter(|pixels| pixels.checked_mul(3).is_some_and(|size| size <= most))?;
    let mut context = hayro_jpeg2000::DecoderContext::default();
    let samples = image.decode(&mut context).ok()?.data_u8();
    let samples = match samples.len().checked_div(pixels)? {
        1 => samples.iter().flat_map(|&gray| [gray; 3]).collect(),
        2 => samples.chunks_exact(2).flat_map(|pixel| [pixel[0]; 3]).collect(),
        3 => samples,
        4 => samples.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        _ => return None,
    };
    Some(Rgb { width, height, samples })
}
