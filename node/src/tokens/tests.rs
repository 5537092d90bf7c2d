use std::time::Duration;

use cairn_event_store::postgres;
use cairn_testkit::postgres::{Cluster, Database, Settings};
use chrono::TimeDelta;
use sqlx::AssertSqlSafe;

use super::*;

const BRAIN: Uuid = Uuid::from_u128(1);
/// How many tokens are made and revoked, one after the other, while another process looks on.
const CHANGES: usize = 10;
/// How long that may take: each of the twenty changes would wait a second for a look that nobody asked for.
const TOLD_WITHIN: Duration = Duration::from_secs(8);

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("valid time")
}

async fn add(tokens: &Tokens, name: &str) -> (Token, Secret) {
    tokens.add(name, Truth::CloudAi, Origin::of(Truth::CloudAi, name), None, at(100)).await.expect("kept")
}

/// A database with the tables, and the tokens of its brain as this many processes have them.
async fn shared(processes: usize) -> (Database, Vec<Tokens>) {
    let database = cairn_testkit::postgres::database().await;
    let pool = postgres::connect(database.url(), 8).await.expect("connects");
    postgres::migrate(&pool).await.expect("migrates");
    let mut all = Vec::new();
    for _ in 0..processes {
        all.push(Tokens::in_database(pool.clone(), BRAIN).await.expect("opens"));
    }
    (database, all)
}

/// Waits until what is known satisfies a condition.
async fn until(tokens: &Tokens, is_so: impl Fn(&Known) -> bool) {
    let waiting = async {
        while !is_so(&tokens.known().expect("known")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TOLD_WITHIN, waiting).await.expect("it is told of");
}

async fn a_token_works_until_it_expires_or_is_revoked(tokens: &Tokens, reopened: &Tokens) {
    let origin = Origin::of(Truth::CloudAi, "claude");
    let expires = Some(at(100) + TimeDelta::seconds(10));
    let (token, secret) = tokens.add("claude", Truth::CloudAi, origin, expires, at(100)).await.expect("kept");
    let known = reopened.refreshed().await.expect("known");
    assert_eq!(known.authenticate(secret.expose(), at(105)), Ok(token.clone()), "every field is kept");
    assert_eq!(known.authenticate(secret.expose(), at(110)), Err(Denied::Expired));
    assert_eq!(reopened.authenticate("cairn_guess", at(105)).await, Err(Denied::Unknown));
    let revoked = reopened.revoke(token.id, at(106)).await.expect("revoked");
    assert_eq!(reopened.authenticate(secret.expose(), at(107)).await, Err(Denied::Revoked));
    assert_eq!(reopened.check(PrincipalId::new(token.id), at(107)), Err(Denied::Revoked));
    let again = reopened.revoke(token.id, at(120)).await.expect("revoked");
    assert_eq!(again.revoked_at, revoked.revoked_at, "since when it was revoked stays");
    let unknown = reopened.revoke(Uuid::nil(), at(120)).await;
    assert!(matches!(unknown, Err(TokenError::NotFound(_))));
}

#[tokio::test]
async fn a_token_in_a_file_works_until_it_expires_or_is_revoked() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("tokens.json");
    let tokens = Tokens::in_file(&path).expect("opens");
    let (_, secret) = add(&tokens, "first").await;
    let file = std::fs::read_to_string(&path).expect("reads");
    assert!(!file.contains(secret.expose().trim_start_matches(SECRET_PREFIX)), "the secret is not in the file");
    // One process uses a file; the other only reads what that one has written.
    let origin = Origin::of(Truth::CloudAi, "claude");
    let (token, secret) = tokens.add("claude", Truth::CloudAi, origin, None, at(100)).await.expect("kept");
    let reopened = Tokens::in_file(&path).expect("opens");
    assert_eq!(reopened.authenticate(secret.expose(), at(105)).await, Ok(token));
    a_token_works_until_it_expires_or_is_revoked(&reopened, &reopened).await;
}

#[tokio::test]
async fn a_token_in_the_database_works_until_it_expires_or_is_revoked() {
    let (_database, tokens) = shared(2).await;
    a_token_works_until_it_expires_or_is_revoked(&tokens[0], &tokens[1]).await;
}

#[tokio::test]
async fn a_new_token_is_known_everywhere_at_once() {
    let (_database, tokens) = shared(2).await;
    for n in 0..20 {
        let (token, secret) = add(&tokens[n % 2], "claude").await;
        assert_eq!(tokens[(n + 1) % 2].authenticate(secret.expose(), at(105)).await, Ok(token));
    }
}

#[tokio::test]
async fn others_are_told_of_changes() {
    let (_database, tokens) = shared(2).await;
    let began = tokio::time::Instant::now();
    for _ in 0..CHANGES {
        let (token, _) = add(&tokens[0], "claude").await;
        until(&tokens[1], |known| known.get(token.id).is_some()).await;
        tokens[0].revoke(token.id, at(101)).await.expect("revoked");
        until(&tokens[1], |known| known.get(token.id).is_some_and(|token| token.revoked_at.is_some())).await;
    }
    assert!(began.elapsed() < TOLD_WITHIN, "{:?}", began.elapsed());
}

#[tokio::test]
async fn changes_made_at_once_are_all_made() {
    let (_database, tokens) = shared(3).await;
    let adding = (0..30).map(|n| {
        let tokens = &tokens[n % 3];
        async move { add(tokens, &format!("agent {n}")).await }
    });
    let made = futures::future::join_all(adding).await;
    for tokens in &tokens {
        let known = tokens.refreshed().await.expect("known");
        assert_eq!(known.len(), 30);
        assert!(
            made.iter().all(|(token, secret)| known.authenticate(secret.expose(), at(105)).as_ref() == Ok(token))
        );
    }
}

#[tokio::test]
async fn there_is_a_limit_that_counts_for_all() {
    let (database, tokens) = shared(2).await;
    add(&tokens[0], "first").await;
    let pool = postgres::connect(database.url(), 1).await.expect("connects");
    let mut transaction = postgres::begin(&pool, BRAIN).await.expect("begins");
    let fill = format!(
        "INSERT INTO cairn.tokens (brain, id, name, ceiling, origin, hash, created_at)
         SELECT '{BRAIN}', gen_random_uuid(), 'x', 5, 'ai-cloud:x', n::text, now() FROM generate_series(2, {MAX_TOKENS}) n"
    );
    sqlx::query(AssertSqlSafe(fill)).execute(&mut *transaction).await.expect("filled");
    transaction.commit().await.expect("filled");
    let origin = Origin::of(Truth::CloudAi, "more");
    let refused = tokens[1].add("more", Truth::CloudAi, origin, None, at(100)).await;
    assert!(matches!(refused, Err(TokenError::TooMany)));
}

#[tokio::test]
async fn brains_in_one_database_do_not_share_tokens() {
    let (database, tokens) = shared(1).await;
    let (token, secret) = add(&tokens[0], "claude").await;
    let pool = postgres::connect(database.url(), 2).await.expect("connects");
    let other = Tokens::in_database(pool, Uuid::from_u128(2)).await.expect("opens");
    assert_eq!(other.authenticate(secret.expose(), at(105)).await, Err(Denied::Unknown));
    assert!(matches!(other.revoke(token.id, at(105)).await, Err(TokenError::NotFound(_))));
    assert_eq!(tokens[0].authenticate(secret.expose(), at(105)).await, Ok(token));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_what_is_known_counts_for_a_while_and_no_longer() {
    let cluster = Cluster::start(&Settings::default()).expect("a private PostgreSQL");
    let database = cluster.database().await;
    let pool = postgres::connect(database.url(), 4).await.expect("connects");
    postgres::migrate(&pool).await.expect("migrates");
    let tokens = Tokens::in_database(pool, BRAIN).await.expect("opens");
    let (token, secret) = add(&tokens, "claude").await;
    cluster.stop();
    assert_eq!(tokens.authenticate(secret.expose(), at(105)).await, Ok(token.clone()));
    assert_eq!(tokens.authenticate("cairn_guess", at(105)).await, Err(Denied::Unavailable), "it may be a new one");
    let refused = tokens.revoke(token.id, at(105)).await;
    assert!(matches!(refused, Err(TokenError::Store(StoreError::Unavailable { .. }))));
    tokio::time::sleep(database::TRUSTED_FOR).await;
    assert_eq!(tokens.check(PrincipalId::new(token.id), at(105)), Err(Denied::Unavailable));
    assert_eq!(tokens.authenticate(secret.expose(), at(105)).await, Err(Denied::Unavailable));
    cluster.resume().expect("it starts again");
    let back = async { while tokens.authenticate(secret.expose(), at(105)).await != Ok(token.clone()) {} };
    tokio::time::timeout(Duration::from_secs(20), back).await.expect("it goes on by itself");
}
