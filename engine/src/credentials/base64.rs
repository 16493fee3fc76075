//! Base64 (RFC 4648, section 4), as `config.json` has it.

pub(super) use crate::source::base64::encode;

/// Reads base64; line ends are passed over, and the padding may be missing.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').bytes().filter(|byte| !matches!(byte, b'\r' | b'\n'));
    let mut plain = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in digits {
        bits = bits << 6 | u32::from(value(digit)?);
        count += 6;
        if count >= 8 {
            count -= 8;
            plain.push((bits >> count) as u8);
        }
    }
    // Six bits alone are no byte.
    (count < 6).then_some(plain)
}

fn value(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in ["", "f", "fo", "foo", "foob", "user:pass\u{e9}~\u{7f}"] {
            assert_eq!(decode(&encode(text.as_bytes())).as_deref(), Some(text.as_bytes()));
        }
        assert_eq!(decode("Zm8").as_deref(), Some(b"fo".as_slice()));
        assert_eq!(decode("Zm9v\nYmFy\n").as_deref(), Some(b"foobar".as_slice()));
        for bad in ["Z", "Zm9v!", "Zm9vY", "Z-__"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
