use std::collections::BTreeMap;

use chrono::TimeDelta;

use super::*;
use crate::tokens::Tokens;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_000, 0).expect("valid time")
}

fn wanted(principal: &str) -> KafkaSourceConfig {
    let brief = format!("topic = \"sensors\"\nprincipal = \"{principal}\"\nbrokers = \"elsewhere:9092\"");
    toml(&brief)
}

fn toml(text: &str) -> KafkaSourceConfig {
    use figment::providers::Format;
    figment::Figment::from(figment::providers::Toml::string(text)).extract().expect("valid")
}

fn kafka(brokers: Option<&str>) -> KafkaConfig {
    KafkaConfig {
        brokers: brokers.map(str::to_owned),
        topic_prefix: "cairn".to_owned(),
        properties: BTreeMap::new(),
        sources: Vec::new(),
    }
}

/// A brain with one token of each ceiling, named after it.
async fn tokens(folder: &tempfile::TempDir) -> Tokens {
    let tokens = Tokens::in_file(&folder.path().join("tokens.json")).expect("opens");
    for ceiling in Truth::ALL {
        add(&tokens, ceiling.name(), ceiling, None).await;
    }
    tokens
}

async fn add(tokens: &Tokens, name: &str, ceiling: Truth, expires_at: Option<DateTime<Utc>>) -> Token {
    let origin = Origin::of(ceiling, name);
    tokens.add(name, ceiling, origin, expires_at, now()).await.expect("kept").0
}

#[tokio::test]
async fn a_source_writes_as_its_token_and_at_no_higher_truth() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let tokens = tokens(&folder).await;
    let known = tokens.known().expect("known");
    for given in Truth::ALL.into_iter().filter(|given| *given != Truth::User) {
        for asked in [None, Some(Truth::Automation), Some(Truth::CloudAi)] {
            let wanted = KafkaSourceConfig { ceiling: asked, ..wanted(given.name()) };
            let config = source_config(&wanted, &kafka(None), &known, now()).expect("it can be");
            let level = asked.unwrap_or(given).max(given);
            assert_eq!(config.ceiling, level, "{given:?} {asked:?}");
            assert_eq!(config.origin, Some(Origin::of(level, "kafka/sensors")));
            let token = known.list().into_iter().find(|token| token.id == config.principal).expect("a token's");
            assert_eq!(token.ceiling, given);
        }
    }
}

#[tokio::test]
async fn a_source_is_never_the_user() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let tokens = tokens(&folder).await;
    let known = tokens.known().expect("known");
    let as_user = KafkaSourceConfig { ceiling: Some(Truth::User), ..wanted("automation") };
    for wanted in [wanted("user"), as_user] {
        let refused = source_config(&wanted, &kafka(None), &known, now());
        assert!(matches!(refused, Err(SourceRefusal::AsUser { .. })), "{refused:?}");
    }
    let foreign = KafkaSourceConfig { origin: Some(Origin::of(Truth::User, "me")), ..wanted("automation") };
    let refused = source_config(&foreign, &kafka(None), &known, now());
    assert!(matches!(refused, Err(SourceRefusal::ForeignOrigin { .. })), "{refused:?}");
}

#[tokio::test]
async fn the_token_is_the_one_that_works_of_those_with_the_name() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let tokens = tokens(&folder).await;
    let find = |principal: &str| token(&wanted(principal), &tokens.known().expect("known"), now());
    assert!(matches!(find("sensors"), Err(SourceRefusal::NoSuchToken { .. })));
    let old = add(&tokens, "sensors", Truth::Automation, Some(now())).await;
    assert_eq!(find("sensors").expect("meant").id, old.id, "its source then says that it expired");
    let first = add(&tokens, "sensors", Truth::Automation, Some(now() + TimeDelta::days(1))).await;
    assert_eq!(find("sensors").expect("meant").id, first.id);
    let second = add(&tokens, "sensors", Truth::Automation, None).await;
    assert!(matches!(find("sensors"), Err(SourceRefusal::SeveralTokens { .. })));
    assert_eq!(find(&second.id.to_string()).expect("meant").id, second.id);
    tokens.revoke(first.id, now()).await.expect("revoked");
    assert_eq!(find("sensors").expect("meant").id, second.id);
}

#[tokio::test]
async fn brokers_that_are_not_named_are_those_to_publish_to() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let tokens = tokens(&folder).await;
    let known = tokens.known().expect("known");
    let shared = toml("topic = \"t\"\nprincipal = \"automation\"\nproperties = { a = \"own\" }");
    let refused = source_config(&shared, &kafka(None), &known, now());
    assert!(matches!(refused, Err(SourceRefusal::NoBrokers { .. })), "{refused:?}");
    let publishing: KafkaConfig = {
        use figment::providers::Format;
        let text = "brokers = \"here:9092\"\nproperties = { a = \"shared\", b = \"shared\" }";
        figment::Figment::from(figment::providers::Toml::string(text)).extract().expect("valid")
    };
    let config = source_config(&shared, &publishing, &known, now()).expect("it can be");
    assert_eq!(config.brokers, "here:9092");
    assert_eq!(config.properties.iter().collect::<Vec<_>>(), [("a", "own"), ("b", "shared")]);
    let config = source_config(&wanted("automation"), &publishing, &known, now()).expect("it can be");
    assert_eq!((config.brokers.as_str(), config.properties.iter().count()), ("elsewhere:9092", 0));
}
