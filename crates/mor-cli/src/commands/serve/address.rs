//! Names of files in addresses, and back.

/// Escapes whatever is not plain in every part of an address: `50%` becomes `50%25`.
pub(super) fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Undoes [`encode`]; `None` when an escape is cut short or the bytes are not UTF-8.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else {
            return None;
        };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_survives_an_address() {
        for (name, address) in [
            ("technical-10m_v1.2", "technical-10m_v1.2"),
            ("50%", "50%25"),
            ("50%25", "50%2525"),
            ("a b?c#d&e=f+g", "a%20b%3Fc%23d%26e%3Df%2Bg"),
            ("grün", "gr%C3%BCn"),
        ] {
            assert_eq!(encode(name), address);
            assert_eq!(decode(address).as_deref(), Some(name));
        }
        assert_eq!(decode("gr%c3%bcn").as_deref(), Some("grün"));
        for bad in ["%", "%4", "%zz", "%ff", "a%c3"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
