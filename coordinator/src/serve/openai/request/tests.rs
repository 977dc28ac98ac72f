//! What is understood, what is refused, and that nothing panics.

use proptest::prelude::*;

use super::*;

const TEMPLATE: &str = "Question: {prompt}\nAnswer:";

/// The prompt as the model is given it.
fn dressed(messages: &Value) -> Result<String, Refusal> {
    let body = json!({ "model": "hydra", "messages": messages }).to_string();
    chat(body.as_bytes(), TEMPLATE).map(|asked| TEMPLATE.replace("{prompt}", &asked.query.prompt))
}

fn refused(body: &Value) -> (String, Option<String>) {
    let refusal = if body.get("messages").is_some() {
        chat(body.to_string().as_bytes(), TEMPLATE)
    } else {
        completion(body.to_string().as_bytes())
    };
    let refusal = refusal.unwrap_err();
    (refusal.to_string(), refusal.param().map(str::to_owned))
}

#[test]
fn a_conversation_is_dressed_like_the_run_s_questions() {
    assert_eq!(dressed(&json!([{ "role": "user", "content": "Hi " }])).unwrap(), "Question: Hi\nAnswer:");
    let several = dressed(&json!([
        { "role": "system", "content": "Be kind." },
        { "role": "user", "content": [{ "type": "text", "text": "What is " }, { "type": "text", "text": "a token?" }] },
        // As the official client hands an answer back.
        { "role": "assistant", "content": "A piece.", "refusal": null, "annotations": [], "tool_calls": null },
        // Speakers may have names.
        { "role": "user", "content": "Of what?", "name": "bob" },
        { "role": "user", "content": "Say it." },
    ]));
    let expected = "Question: Be kind.\n\nWhat is a token?\nAnswer: A piece.\n\nQuestion: Of what?\n\nSay it.\nAnswer:";
    assert_eq!(several.unwrap(), expected);
    let greeted = dressed(&json!([{ "role": "assistant", "content": "Hello!" }, { "role": "user", "content": "Hi" }]));
    assert_eq!(greeted.unwrap(), "Question: \nAnswer: Hello!\n\nQuestion: Hi\nAnswer:");
}

#[test]
fn an_export_s_chat_template_dresses_conversations_alike() {
    // What `transformers` made of the template that an export wrote.
    let reference: Value = serde_json::from_str(include_str!("../../../pretrained/reference.json")).unwrap();
    let chats = reference["chats"].as_array().unwrap();
    assert!(chats.len() > 2);
    for chat in chats {
        assert_eq!(dressed(&chat[0]).unwrap(), chat[1].as_str().unwrap());
    }
}

#[test]
fn settings_reach_the_query() {
    let body = json!({ "model": "hydra", "prompt": ["Once"], "max_tokens": 5, "temperature": 0, "top_p": 0.5,
        "top_k": 7, "seed": -1, "stop": "END", "stream": true, "stream_options": { "include_usage": true },
        "user": "x", "n": 1, "best_of": 1.0, "echo": false, "frequency_penalty": 0.0, "logit_bias": {} });
    let Asked { query, stream, usage } = completion(body.to_string().as_bytes()).unwrap();
    assert_eq!((query.prompt.as_str(), query.raw, query.max_new_tokens), ("Once", true, Some(5)));
    assert_eq!((query.temperature, query.top_p, query.top_k), (Some(0.0), Some(0.5), Some(7)));
    assert_eq!((query.seed, query.stop, stream, usage), (Some(u64::MAX), vec!["END".to_owned()], true, true));
    let nulls = json!({ "model": "hydra", "prompt": "x", "stop": null, "stream": null, "seed": null, "suffix": null,
        "logprobs": null, "max_tokens": null });
    let Asked { query, stream, usage } = completion(nulls.to_string().as_bytes()).unwrap();
    assert_eq!((query.max_new_tokens, query.seed, query.stop.len(), stream, usage), (None, None, 0, false, false));
}

#[test]
fn what_asks_for_nothing_may_be_sent_to_either_endpoint() {
    for (name, nothing) in neutral() {
        let mut body = json!({ "model": "hydra", "prompt": "x" });
        body[name] = nothing.clone();
        assert!(completion(body.to_string().as_bytes()).is_ok(), "{name}");
        let mut body = json!({ "model": "hydra", "messages": [{ "role": "user", "content": "Hi" }] });
        body[name] = nothing;
        assert!(chat(body.to_string().as_bytes(), TEMPLATE).is_ok(), "{name}");
    }
}

#[test]
fn what_cannot_be_honoured_is_refused_by_its_name() {
    let turns = json!([{ "role": "user", "content": "Hi" }]);
    for (name, value) in [
        ("n", json!(2)),
        ("tools", json!([{ "type": "function" }])),
        ("tool_choice", json!("auto")),
        ("functions", json!([{}])),
        ("logprobs", json!(true)),
        ("top_logprobs", json!(0)),
        ("logit_bias", json!({ "1": 5 })),
        ("presence_penalty", json!(0.5)),
        ("response_format", json!({ "type": "json_object" })),
        ("modalities", json!(["text", "audio"])),
        ("reasoning_effort", json!("low")),
        ("stop", json!(["1", "2", "3", "4", "5"])),
        ("stop", json!("")),
        ("stop", json!("x".repeat(65))),
        ("max_tokens", json!(0)),
        ("max_tokens", json!(-1)),
        ("max_completion_tokens", json!(4097)),
        ("temperature", json!("hot")),
        ("temperature", json!(11)),
        ("top_p", json!(0)),
        ("seed", json!(1.5)),
        ("stream", json!("yes")),
        ("model", Value::Null),
        ("messages", json!([])),
        ("messages", json!("Hi")),
        ("messages", json!([{ "role": "assistant", "content": "x" }])),
        ("messages[0].role", json!([{ "role": "tool", "content": "x" }])),
        ("messages[0].content", json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }])),
        ("messages[0].tool_calls", json!([{ "role": "user", "content": "x", "tool_calls": [{}] }])),
        ("stream_options.pace", json!({ "pace": 3 })),
    ] {
        let field = name.split(['[', '.']).next().unwrap();
        let mut body = json!({ "model": "hydra", "messages": turns });
        body[field] = value;
        let (text, param) = refused(&body);
        assert_eq!(param.as_deref(), Some(name), "{text}");
    }
    for (name, value) in [("prompt", json!(["x", "y"])), ("suffix", json!("x")), ("logprobs", json!(0))] {
        let mut body = json!({ "model": "hydra", "prompt": "x" });
        body[name] = value;
        assert_eq!(refused(&body).1.as_deref(), Some(name));
    }
    // In the words of JSON.
    for (name, value, told) in [
        ("temperature", json!("hot"), "expected a number"),
        ("max_tokens", json!(-1), "expected a whole number, not below 0"),
        ("stream", json!("yes"), "expected true or false"),
        ("messages", json!("Hi"), "expected a list"),
    ] {
        let mut body = json!({ "model": "hydra", "messages": turns });
        body[name] = value;
        let (text, _) = refused(&body);
        assert!(text.contains(told), "{text}");
    }
    let both = json!({ "model": "hydra", "prompt": "x", "max_tokens": 5, "max_completion_tokens": 6 });
    assert!(refused(&both).0.contains("different"));
    assert!(refused(&json!({ "model": "gpt-4", "prompt": "x" })).0.contains("gpt-4"));
    for body in ["", "{", "[]", "null", "{\"model\":\"hydra\"}", &"[".repeat(10_000)] {
        assert!(completion(body.as_bytes()).is_err() && chat(body.as_bytes(), TEMPLATE).is_err());
    }
}

#[test]
fn a_prompt_has_its_limit_with_its_template() {
    let prompt = |length: usize| json!({ "model": "hydra", "prompt": "x".repeat(length) }).to_string();
    assert!(completion(prompt(limits::PROMPT_BYTES).as_bytes()).is_ok());
    assert!(refused(&serde_json::from_str(&prompt(limits::PROMPT_BYTES + 1)).unwrap()).0.contains("65536 bytes"));
    // Of turns that are next to nothing, the template is what counts.
    let turns = |count: usize| {
        let turns = (0..count)
            .flat_map(|_| [json!({ "role": "user", "content": "a" }), json!({ "role": "assistant", "content": "" })]);
        let turns: Vec<_> = turns.chain([json!({ "role": "user", "content": "a" })]).collect();
        json!({ "model": "hydra", "messages": turns }).to_string()
    };
    let long = format!("{}{{prompt}}\nA:", "long ".repeat(1_000));
    assert!(chat(turns(10).as_bytes(), &long).is_ok() && chat(turns(1_000).as_bytes(), TEMPLATE).is_ok());
    let refusal = chat(turns(1_000).as_bytes(), &long).unwrap_err();
    assert!(refusal.to_string().contains("shorten it"), "{refusal}");
}

#[test]
fn a_refusal_does_not_grow_with_what_it_refuses() {
    let long = "é".repeat(50_000);
    for body in [
        json!({ "model": long, "prompt": "x" }),
        json!({ "model": "hydra", "prompt": "x", long.clone(): 1 }),
        json!({ "model": "hydra", "prompt": "x", "temperature": long }),
        json!({ "model": "hydra", "messages": [{ "role": long }] }),
    ] {
        let (text, param) = refused(&body);
        assert!(text.len() <= limits::TEXT_BYTES && param.is_none_or(|name| name.len() <= limits::TEXT_BYTES));
    }
}

proptest! {
    #[test]
    fn no_body_panics(cut in 0usize..600, at in 0usize..600, byte: u8) {
        let mut body = json!({ "model": "hydra", "messages": [
            { "role": "system", "content": "Be kind." },
            { "role": "user", "content": [{ "type": "text", "text": "Say \u{e9}\n" }] },
            { "role": "assistant", "content": "No." },
            { "role": "user", "content": "Yes" } ],
            "max_tokens": 5, "temperature": 0.5, "top_p": 0.5, "seed": 1, "stop": ["a", "b"], "stream": true,
            "stream_options": { "include_usage": true }, "n": 1, "prompt": "x" }).to_string().into_bytes();
        if let Some(place) = body.get_mut(at) {
            *place = byte;
        }
        body.truncate(body.len().saturating_sub(cut));
        chat(&body, TEMPLATE).ok();
        completion(&body).ok();
    }
}
