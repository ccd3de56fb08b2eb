//! QR codes as SVG documents.

use std::fmt::Write;

use qrcodegen::{QrCode, QrCodeEcc};

/// The width of the white border, in modules (ISO/IEC 18004, section 6.3.8).
const BORDER: i32 = 4;

/// Returns the QR code of a text. Returns `None` if the text is too long.
#[must_use]
pub fn to_svg(text: &str) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
    let size = code.size() + 2 * BORDER;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {size} {size}\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0 0h{size}v{size}H0z\"/><path d=\""
    );
    for y in 0..code.size() {
        for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
            // Writing to a string cannot fail.
            _ = write!(svg, "M{} {}h1v1h-1z", x + BORDER, y + BORDER);
        }
    }
    Some(svg + "\"/></svg>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dark_module_is_a_square() {
        let svg = to_svg("otpauth://totp/Taskey").expect("a short text");
        let code = QrCode::encode_text("otpauth://totp/Taskey", QrCodeEcc::Medium).expect("a short text");
        let modules = (0..code.size()).flat_map(|y| (0..code.size()).map(move |x| (x, y)));
        let dark = modules.filter(|(x, y)| code.get_module(*x, *y)).count();
        assert_eq!(svg.matches("h1v1h-1z").count(), dark);
        assert!(svg.contains("M4 4h1v1h-1z"), "the corner of the first finder pattern: {svg}");
    }

    #[test]
    fn texts_that_do_not_fit_have_no_code() {
        assert_eq!(to_svg(&"x".repeat(5000)), None);
    }
}
