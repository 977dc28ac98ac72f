//! Keys and the mouse as the bytes that xterm and its kin send.

/// The bytes of keys by name, with spaces between: `a`, `?`, `space`, `enter`, `esc`, `tab`, `backspace`, `up`,
/// `down`, `left`, `right`, `pageup`, `pagedown`, `f1`, `ctrl-c`, `alt-enter`. The error is the name that is none.
pub fn bytes(names: &str) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    for name in names.split_whitespace() {
        all.extend(key(name).ok_or_else(|| name.to_owned())?);
    }
    Ok(all)
}

fn key(name: &str) -> Option<Vec<u8>> {
    if let Some(rest) = name.strip_prefix("alt-") {
        return key(rest).map(|bytes| [b"\x1b".as_slice(), &bytes].concat());
    }
    if let Some(letter) = name.strip_prefix("ctrl-") {
        let [letter @ b'a'..=b'z'] = letter.as_bytes() else { return None };
        return Some(vec![letter & 0x1f]);
    }
    let sequence: &[u8] = match name {
        "space" => b" ",
        "enter" => b"\r",
        "esc" => b"\x1b",
        "tab" => b"\t",
        "backspace" => b"\x7f",
        "up" => b"\x1b[A",
        "down" => b"\x1b[B",
        "right" => b"\x1b[C",
        "left" => b"\x1b[D",
        "pageup" => b"\x1b[5~",
        "pagedown" => b"\x1b[6~",
        "f1" => b"\x1bOP",
        letter if letter.chars().count() == 1 => letter.as_bytes(),
        _ => return None,
    };
    Some(sequence.to_vec())
}

/// A text as bracketed paste brings it.
pub fn paste(text: &str) -> Vec<u8> {
    [b"\x1b[200~", text.as_bytes(), b"\x1b[201~"].concat()
}

/// A click of the left button at a column and row, counted from 0.
pub fn click(column: u16, row: u16) -> Vec<u8> {
    let (x, y) = (column + 1, row + 1);
    format!("\x1b[<0;{x};{y}M\x1b[<0;{x};{y}m").into_bytes()
}

/// A turn of the wheel there.
pub fn wheel(column: u16, row: u16, down: bool) -> Vec<u8> {
    format!("\x1b[<{};{};{}M", 64 + u8::from(down), column + 1, row + 1).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_by_name() {
        assert_eq!(bytes("h i enter ctrl-c alt-enter up"), Ok(b"hi\r\x03\x1b\r\x1b[A".to_vec()));
        assert_eq!(bytes("a nokey"), Err("nokey".to_owned()));
        assert_eq!(click(0, 4), b"\x1b[<0;1;5M\x1b[<0;1;5m");
        assert_eq!(wheel(9, 0, true), b"\x1b[<65;10;1M");
    }
}
