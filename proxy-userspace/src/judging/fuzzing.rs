//! The entry point of the fuzz target `judge_messages`: what a worker or a judge that was taken over may send.

use super::protocol::{
    FromJudge, JudgeOrder, JudgeReply, JudgeRequest, LeafBody, TermsReply, ToJudge, read_body, write_head,
};

/// Read octets as each end does. What is read of a reply is within its bounds and holds no control character; what is read
/// of a head is written as it was read.
pub fn messages(octets: &[u8]) {
    let _ = postcard::from_bytes::<ToJudge>(octets);
    let _ = postcard::from_bytes::<FromJudge>(octets);
    let _ = postcard::from_bytes::<TermsReply>(octets);
    if let Ok(JudgeRequest {
        order: JudgeOrder::Leaf { head_bytes, body: LeafBody::Inline(body), .. }, ..
    }) = postcard::from_bytes(octets)
    {
        head(&body.0, head_bytes);
    }
    head(octets, u32::try_from(octets.len()).unwrap_or(u32::MAX));
    if let Ok(reply) = postcard::from_bytes::<JudgeReply>(octets) {
        let id = reply.id;
        if let Ok(decision) = reply.checked(id) {
            let same = JudgeReply::new(id, decision.clone()).checked(id);
            assert_eq!(same, Ok(decision), "an honest judge may send what a reply may hold");
        }
    }
}

fn head(body: &[u8], head_bytes: u32) {
    if let Ok((read, leaf)) = read_body(body, head_bytes) {
        assert!(leaf.len() <= body.len());
        let written = write_head(&read.head());
        let again = written
            .map(|octets| read_body(&octets, u32::try_from(octets.len()).unwrap_or(0)).map(|(head, _)| head));
        assert_eq!(again, Ok(Ok(read)), "a head is written as it was read");
    }
}
