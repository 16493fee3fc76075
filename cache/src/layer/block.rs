//! The numbers and the checksum in a tar header block.
//!
//! The block's layout is the `tar` crate's; what the fields mean together is the reader's and the
//! writer's business.

use tar::Header;

/// Everything in a tar is a multiple of this.
pub(super) const BLOCK: usize = 512;

/// Returns how many bytes fill `size` up to whole blocks.
pub(super) fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// Writes `value` as zero-filled octal with a NUL after it, if the field is wide enough.
///
/// Leaves all zeros where it is not, as Go does below an extended record.
pub(super) fn put_octal(field: &mut [u8], value: u64) -> bool {
    let (end, digits) = field.split_last_mut().expect("fields are not empty");
    *end = 0;
    let fits = value >> (3 * digits.len()).min(63) == 0;
    let mut rest = if fits { value } else { 0 };
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest & 7) as u8;
        rest >>= 3;
    }
    fits
}

/// Reads a number: octal with blanks around it, or base 256 in two's complement (GNU).
pub(super) fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 != 0 {
        return base_256(field);
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let Some(start) = field.iter().position(|byte| !is_blank(byte)) else {
        return Some(0);
    };
    let digits = field[start..].split(is_blank).next()?;
    let text = std::str::from_utf8(digits).ok()?;
    i64::from_str_radix(text, 8).ok().filter(|value| *value >= 0)
}

fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    // The first byte's top bit says "base 256"; the next one is the sign.
    let first = if negative { field[0] } else { field[0] & 0x7f };
    let mut value = if negative { -1_i128 } else { 0 };
    for byte in std::iter::once(&first).chain(&field[1..]) {
        value = value << 8 | i128::from(*byte);
    }
    i64::try_from(value).ok()
}

/// Returns whether the block's checksum is right, counted by either of the two traditions.
pub(super) fn has_valid_checksum(header: &Header) -> bool {
    let stored = number(&header.as_old().cksum);
    let signed = || checksum(header, |byte| i32::from(byte.cast_signed()));
    stored == Some(checksum(header, i32::from)) || stored == Some(signed())
}

/// Fills in the checksum.
pub(super) fn put_checksum(header: &mut Header) {
    let sum = checksum(header, i32::from);
    let field = &mut header.as_old_mut().cksum;
    // Six digits, a NUL and a space: what every tar since the seventh edition writes.
    put_octal(&mut field[..7], sum.unsigned_abs());
    field[7] = b' ';
}

/// The sum of the bytes, in which the checksum itself counts as spaces.
fn checksum(header: &Header, value: impl Fn(u8) -> i32) -> i64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| value(*byte)).sum::<i32>();
    let field = &header.as_old().cksum;
    i64::from(sum(header.as_bytes()) - sum(field) + sum(&[b' '; 8]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_every_tradition() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644\0 777", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"00006a4\0", None),
            (b"-000644\0", None),
            (b"+000644\0", Some(0o644)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"77777777777\0", Some((1 << 33) - 1)),
        ] {
            assert_eq!(number(field), expected, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn octal_says_whether_it_fits() {
        let mut field = [0xff; 8];
        assert!(put_octal(&mut field, (1 << 21) - 1));
        assert_eq!(&field, b"7777777\0");
        assert!(!put_octal(&mut field, 1 << 21));
        assert_eq!(&field, b"0000000\0");
    }
}
