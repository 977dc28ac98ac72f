//! The text that a run learns from when nobody gives any: prose, questions and answers about what HydraAI is made of.
//!
//! Written for this project. Each question with its answer is a document of its own, so that a model learns to stop
//! after an answer; the prose between headings is a document too. The documents of a file, joined, are the file.

use super::read::Source;

/// The files' names and contents.
pub const FILES: [(&str, &str); 9] = [
    ("primer/hydra.md", include_str!("../../primer/hydra.md")),
    ("primer/credits.md", include_str!("../../primer/credits.md")),
    ("primer/learning.md", include_str!("../../primer/learning.md")),
    ("primer/networks.md", include_str!("../../primer/networks.md")),
    ("primer/transformers.md", include_str!("../../primer/transformers.md")),
    ("primer/tokens.md", include_str!("../../primer/tokens.md")),
    ("primer/distributed.md", include_str!("../../primer/distributed.md")),
    ("primer/python.md", include_str!("../../primer/python.md")),
    ("primer/rust.md", include_str!("../../primer/rust.md")),
];

/// What each question begins with.
pub const QUESTION: &str = "Question: ";

/// The primer as sources.
pub fn sources() -> Vec<Source> {
    FILES
        .iter()
        .map(|(name, text)| Source { name: (*name).to_owned(), origin: None, documents: documents(text) })
        .collect()
}

/// A file's documents: a question with its answer, or everything from a heading to the next heading or question.
fn documents(text: &str) -> Vec<String> {
    let mut documents: Vec<String> = Vec::new();
    let mut alone = false;
    for block in text.split_inclusive("\n\n") {
        let question = block.starts_with(QUESTION);
        match documents.last_mut() {
            Some(last) if !(question || alone || block.starts_with('#')) => last.push_str(block),
            _ => documents.push(block.to_owned()),
        }
        alone = question;
    }
    documents
}

#[cfg(test)]
mod tests {
    use hydra_config::TokenizerSpec;

    use super::*;
    use crate::data::split::hold_out;
    use crate::data::tokenizer::Tokenizer;

    #[test]
    fn documents_are_the_files() {
        assert_eq!(
            documents("# A\n\nProse.\n\nMore.\n\nQuestion: Q?\nAnswer: A.\n\nProse again.\n\n## B\n"),
            ["# A\n\nProse.\n\nMore.\n\n", "Question: Q?\nAnswer: A.\n\n", "Prose again.\n\n", "## B\n"]
        );
        for ((name, text), source) in FILES.iter().zip(sources()) {
            assert_eq!(source.documents.concat(), *text, "{name}");
        }
    }

    #[test]
    fn there_is_enough_of_it_and_it_keeps_its_form() {
        let bytes: usize = FILES.iter().map(|(_, text)| text.len()).sum();
        assert!(bytes >= 60_000, "{bytes}");
        let mut questions = 0;
        for (name, text) in FILES {
            assert!(text.is_ascii() && text.ends_with('\n') && !text.contains("\n\n\n"), "{name}");
            for block in text.split("\n\n").filter(|block| block.contains("Question:")) {
                let (question, answer) = block.split_once('\n').expect(block);
                assert!(question.starts_with(QUESTION) && question.ends_with('?'), "{name}: {question}");
                assert!(answer.starts_with("Answer: ") && !answer.trim_end().contains('\n'), "{name}: {answer}");
                questions += 1;
            }
        }
        assert!(questions >= 250, "{questions}");
    }

    #[test]
    fn every_file_holds_questions_out() {
        for source in sources() {
            let (_, held_out) = hold_out(&source);
            let asked = held_out.iter().filter(|document| document.starts_with(QUESTION)).count();
            assert!(asked >= 3, "{}: {asked}", source.name);
        }
    }

    #[test]
    fn bpe_learns_from_it() {
        let sources = sources();
        let documents: Vec<&str> = sources.iter().flat_map(|s| s.documents.iter().map(String::as_str)).collect();
        let tokenizer = Tokenizer::train(TokenizerSpec::Bpe { vocab: 2_000 }, &documents).unwrap();
        assert_eq!(tokenizer.vocab_size(), 2_000);
        let ids = tokenizer.encode_documents(&documents);
        assert_eq!(tokenizer.decode(&ids), documents.concat().as_bytes());
        assert!(ids.len() * 3 < documents.concat().len(), "{} tokens", ids.len());
    }
}
