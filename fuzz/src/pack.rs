//! A corpus in one file: inputs one after the other, each behind its length (four bytes, little-endian).

/// The inputs in a pack; a pack that ends within an input is damaged, and the rest is left out.
pub fn unpack(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut inputs = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let Some((input, rest)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize) else { break };
        inputs.push(input);
        bytes = rest;
    }
    inputs
}

/// A pack of these inputs, sorted, so that the same inputs make the same file.
pub fn pack(mut inputs: Vec<Vec<u8>>) -> Vec<u8> {
    inputs.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    inputs.dedup();
    inputs
        .iter()
        .flat_map(|input| (input.len() as u32).to_le_bytes().into_iter().chain(input.iter().copied()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out() {
        let inputs = vec![b"abc".to_vec(), Vec::new(), b"x".to_vec(), b"abc".to_vec()];
        let packed = pack(inputs);
        assert_eq!(unpack(&packed), [&b""[..], b"x", b"abc"]);
        assert_eq!(unpack(&packed[..packed.len() - 1]), [&b""[..], b"x"]);
    }
}
