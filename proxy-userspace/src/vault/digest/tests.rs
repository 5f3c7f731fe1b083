use proptest::prelude::*;

use super::*;

const GROUP: usize = GROUP_BYTES as usize;

fn key() -> DigestKey {
    DigestKey::from_octets([7; KEY_BYTES])
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

/// The content in pieces of these sizes, again and again.
fn pieces<'a>(content: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let (mut rest, mut pieces) = (content, Vec::new());
    for size in sizes.iter().cycle() {
        let (piece, later) = rest.split_at(rest.len().min(*size));
        pieces.push(piece);
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    pieces
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..5_usize,
        0..GROUP * 4,
        Just(GROUP),
        Just(GROUP * 2),
        Just(GROUP * 2 + 1),
        Just(GROUP * 3 - 1)
    ]
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..600_usize, 1..GROUP * 2, Just(GROUP)], 1..6)
}

#[test]
fn a_group_is_what_blake3_gives_with_the_key_and_the_last_one_is_as_long_as_it_is() {
    let content = content(GROUP + 5);
    let digests = GroupDigests::of(&key(), &content);
    let (first, second) = content.split_at(GROUP);
    let expected =
        [first, second].map(|group| blake3::keyed_hash(&[7; KEY_BYTES], group).as_bytes()[..16].to_vec());
    assert_eq!(digests.digests().iter().map(|digest| digest.octets().to_vec()).collect::<Vec<_>>(), expected);
    assert_eq!(digests.length(), content.len() as u64);
    assert_eq!(GroupDigests::of(&key(), &[]).digests().len(), 0);
    let other = DigestKey::random().unwrap();
    assert_ne!(GroupDigests::of(&other, &content), digests);
    assert_ne!(
        GroupDigests::of(&key().derive("a"), &content),
        GroupDigests::of(&key().derive("b"), &content)
    );
}

#[test]
fn fields_that_only_look_alike_when_joined_have_other_digests() {
    let of = |fields: &[&[u8]]| key().of_fields::<32>(fields);
    assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
    assert_ne!(of(&[b"", b"a"]), of(&[b"a", b""]));
    assert_eq!(of(&[b"a", b""]), of(&[b"a", b""]));
}

#[test]
fn digests_that_were_kept_are_read_only_where_their_number_fits_the_length() {
    for length in [0, 1, GROUP, GROUP + 1, GROUP * 3] {
        let made = GroupDigests::of(&key(), &content(length));
        let octets: Vec<u8> = made.digests().iter().flat_map(|digest| *digest.octets()).collect();
        let length = made.length();
        assert_eq!(GroupDigests::from_octets(length, &octets), Some(made));
        assert_eq!(GroupDigests::from_octets(length + GROUP_BYTES, &octets), None);
        assert_eq!(GroupDigests::from_octets(length, &[octets.as_slice(), &[0]].concat()), None);
    }
}

#[test]
fn what_is_one_octet_longer_is_another_content_and_what_is_shorter_never_complete() {
    for length in [0, 1, GROUP - 1, GROUP, GROUP + 1] {
        let content = content(length);
        let expected = Arc::new(GroupDigests::of(&key(), &content));
        let mut verifier = GroupVerifier::new(&key(), Arc::clone(&expected));
        assert_eq!(verifier.is_complete(), length == 0);
        assert_eq!(verifier.take(&content), Ok(length as u64));
        assert!(verifier.is_complete() && verifier.take(&[]).is_ok());
        assert_eq!(verifier.take(b"x"), Err(DigestMismatch { verified: length as u64 }));
        assert!(!verifier.is_complete());
        assert!(verifier.take(&[]).is_err(), "what was another content stays so");
        if let Some((_, less)) = content.split_last() {
            let mut verifier = GroupVerifier::new(&key(), expected);
            let verified = verifier.take(less).unwrap();
            assert_eq!((verified, verifier.is_complete()), (((length - 1) / GROUP * GROUP) as u64, false));
            assert_eq!(verifier.unverified(), less.len() as u64 - verified);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_pieces_give_the_same_digests(length in lengths(), sizes in sizes()) {
        let content = content(length);
        let mut hasher = GroupHasher::new(&key());
        for piece in pieces(&content, &sizes) {
            hasher.push(piece);
            prop_assert_eq!(hasher.digests().len() as u64, hasher.length() / GROUP_BYTES);
        }
        prop_assert_eq!(hasher.finish(), GroupDigests::of(&key(), &content));
    }

    #[test]
    fn in_any_pieces_whole_groups_are_verified_as_they_come(length in lengths(), sizes in sizes()) {
        let content = content(length);
        let mut verifier = GroupVerifier::new(&key(), Arc::new(GroupDigests::of(&key(), &content)));
        let mut come = 0;
        for piece in pieces(&content, &sizes) {
            come += piece.len() as u64;
            let whole = if come == length as u64 { come } else { come / GROUP_BYTES * GROUP_BYTES };
            prop_assert_eq!(verifier.take(piece), Ok(whole));
            prop_assert_eq!(verifier.unverified(), come - whole);
        }
        prop_assert!(verifier.is_complete());
    }

    #[test]
    fn an_octet_that_is_another_keeps_its_group_and_all_behind_it_back(
        length in 1..GROUP * 4, sizes in sizes(), at in any::<prop::sample::Index>(), bit in 0..8_u32,
    ) {
        let mut content = content(length);
        let expected = Arc::new(GroupDigests::of(&key(), &content));
        let at = at.index(length);
        content[at] ^= 1 << bit;
        let before = (at / GROUP * GROUP) as u64;
        let mut verifier = GroupVerifier::new(&key(), expected);
        let mut come = 0;
        for piece in pieces(&content, &sizes) {
            come += piece.len() as u64;
            match verifier.take(piece) {
                Ok(verified) => prop_assert!(verified <= before),
                Err(mismatch) => prop_assert_eq!(mismatch, DigestMismatch { verified: before }),
            }
        }
        prop_assert_eq!(come, length as u64);
        prop_assert!(!verifier.is_complete() && verifier.verified() == before);
        prop_assert!(verifier.take(&[]).is_err());
    }

    #[test]
    fn groups_in_another_order_are_another_content(swap in 1..4_usize) {
        let mut content = content(GROUP * 4);
        let expected = Arc::new(GroupDigests::of(&key(), &content));
        let (first, others) = content.split_at_mut(GROUP * swap);
        first[..GROUP].swap_with_slice(&mut others[..GROUP]);
        let mut verifier = GroupVerifier::new(&key(), expected);
        prop_assert_eq!(verifier.take(&content), Err(DigestMismatch { verified: 0 }));
    }
}
