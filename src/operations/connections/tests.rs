//! What wins over what, and where each mistake is.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;

use super::*;

struct Fake(BTreeMap<&'static str, &'static str>);

impl Outside for Fake {
    fn file(&self, path: &Path) -> Result<Vec<u8>, String> {
        self.0.get(path.to_str().unwrap_or_default()).map(|text| text.as_bytes().to_vec()).ok_or("not there".into())
    }

    fn env(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|value| (*value).to_owned())
    }
}

const TOKEN: &str = "a@pve!t=00000000-0000-0000-0000-000000000000";

fn file(name: &str) -> BTreeMap<ClusterName, FileConnection> {
    let connection = FileConnection {
        endpoints: vec!["https://file:8006".into()],
        username: Some("root@pam".into()),
        password_env: Some("FILE_PW".into()),
        verify_ssl: Some(false),
        connection_timeout: Some(Span::from_secs(45)),
        ..FileConnection::default()
    };
    BTreeMap::from([(ClusterName::new(name).unwrap(), connection)])
}

fn read(written: Written) -> Connections {
    let outside = Fake(BTreeMap::from([("FILE_PW", "x"), ("TOKEN", TOKEN), ("BAD", "nonsense")]));
    Connections::read(&BTreeMap::from([("a".to_owned(), written)]), &file("a"), &outside)
}

fn mistakes(written: Written) -> Vec<(&'static str, bool)> {
    read(written).mistakes.into_iter().filter(|m| !m.warning).map(|m| (m.key, m.in_file)).collect()
}

#[test]
fn the_file_alone_connects_and_a_written_key_wins() {
    let alone = read(Written::default());
    assert!(!alone.has_errors() && alone.mistakes.len() == 1, "insecure is warned about: {:?}", alone.mistakes);
    assert_eq!(alone.usable[0].connect_timeout.as_secs(), 45);
    let over = Written {
        endpoints: Some(vec!["https://here:1".into()]),
        api_token_env: Some("TOKEN".into()),
        fingerprints: Some(vec!["AA".repeat(32)]),
        ..Written::default()
    };
    let over = read(over);
    assert!(over.mistakes.is_empty(), "{:?}", over.mistakes);
    assert_eq!(over.usable[0].endpoints, ["https://here:1"]);
    assert!(matches!(over.usable[0].auth, Auth::Token(_)));
    assert!(matches!(over.usable[0].tls, TlsTrust::Fingerprints(_)), "pinned here beats verify_ssl: false there");
}

#[test]
fn each_mistake_has_its_key() {
    let w = Written::default;
    let text = |text: &str| Some(text.to_owned());
    let cases = [
        (Written { endpoints: Some(vec![]), ..w() }, ("endpoints", false)),
        (Written { endpoints: Some(vec!["http://h:8006".into()]), ..w() }, ("endpoints", false)),
        (Written { api_token_env: text("NOT_SET"), ..w() }, ("api_token_env", false)),
        (Written { api_token_env: text("BAD"), ..w() }, ("api_token_env", false)),
        (Written { password_env: text("NOT_SET"), ..w() }, ("password_env", false)),
        (Written { fingerprints: Some(vec!["AB".into()]), ..w() }, ("fingerprints", false)),
        (Written { ca_file: text("/nowhere"), ..w() }, ("ca_file", false)),
        (Written { connect_timeout: text("soon"), ..w() }, ("connect_timeout", false)),
        (Written { api_token_env: text("TOKEN"), username: text("a@pve"), ..w() }, ("username", false)),
    ];
    for (written, expected) in cases {
        assert_eq!(mistakes(written.clone()), [expected], "{written:?}");
    }
    let outside = Fake(BTreeMap::new());
    let unset = Connections::read(&BTreeMap::new(), &file("a"), &outside);
    assert!(unset.usable.is_empty());
    let unset = unset.mistakes.iter().find(|m| !m.warning).map(|m| (m.key, m.in_file, m.detail.contains("FILE_PW")));
    assert_eq!(unset, Some(("password_env", true, true)));
}

#[test]
fn the_environments_proxy_counts_unless_the_connection_says_otherwise() {
    let way = |environment: &[(&'static str, &'static str)], written: Written| {
        let mut known = BTreeMap::from([("FILE_PW", "x")]);
        known.extend(environment.iter().copied());
        let read = Connections::read(&BTreeMap::from([("a".to_owned(), written)]), &file("a"), &Fake(known));
        let wrong = read.mistakes.iter().filter(|m| !m.warning).map(|m| m.detail.clone()).collect::<String>();
        (read.usable.into_iter().next().map(|connection| connection.route), wrong)
    };
    let w = Written::default;
    let set = ("HTTPS_PROXY", "http://u:hunter2@10.0.0.1:3128");
    assert!(matches!(way(&[], w()).0, Some(Route::Direct)));
    assert!(matches!(way(&[set], w()).0, Some(Route::Environment { .. })));
    assert!(matches!(way(&[("https_proxy", "10.0.0.1:3128")], w()).0, Some(Route::Environment { .. })));
    assert!(matches!(way(&[set], Written { direct: Some(true), ..w() }).0, Some(Route::Direct)));
    assert!(matches!(way(&[set], Written { direct: Some(false), ..w() }).0, Some(Route::Environment { .. })));
    let own = Written { proxy: Some("10.0.0.2:3128".into()), ..w() };
    assert!(matches!(way(&[set], own.clone()).0, Some(Route::Through(_))));
    for (environment, written, says) in [
        (vec![], Written { direct: Some(true), ..own }, "exclude each other"),
        (vec![], Written { proxy: Some("socks5://u:hunter2@h".into()), ..w() }, "socks5:// is not supported"),
        (vec![("HTTPS_PROXY", "https://u:hunter2@h")], w(), "HTTPS_PROXY: a proxy of the kind https://"),
    ] {
        let (route, wrong) = way(&environment, written);
        assert!(route.is_none() && wrong.contains(says) && !wrong.contains("hunter2"), "{says}: {wrong}");
    }
}

#[test]
fn the_token_to_hand_over_is_one_of_its_own() {
    let w = || Written { api_token_env: Some("TOKEN".into()), insecure: Some(true), ..Written::default() };
    let own = read(w());
    assert!(own.usable[0].migration_token.is_none(), "the connection's own token is no token to hand over");
    let inline = Written { migration_token: Some(TOKEN.into()), ..w() };
    let named = Written { migration_token_env: Some("TOKEN".into()), ..w() };
    for written in [&inline, &named] {
        let read = read(written.clone());
        assert!(!read.has_errors(), "{:?}", read.mistakes);
        let token = read.usable[0].migration_token.as_ref().map(ExposeSecret::expose_secret);
        assert_eq!(token, Some(TOKEN));
        assert!(!format!("{written:?} {read:?}").contains("0000-0000"));
    }
    let with = |token: &str| Written { migration_token: Some(token.into()), ..w() };
    let env = |name: &str| Written { migration_token_env: Some(name.into()), ..w() };
    let cases = [
        (Written { migration_token: Some(TOKEN.into()), ..named }, "migration_token_env", "exclude each other"),
        (env("NOT_SET"), "migration_token_env", "NOT_SET, which is not set"),
        (env("BAD"), "migration_token_env", "USER@REALM!TOKENID=UUID"),
        (with("nonsense"), "migration_token", "USER@REALM!TOKENID=UUID"),
        (with(""), "migration_token", "USER@REALM!TOKENID=UUID"),
        (with("a@pve!t=nonsense,b"), "migration_token", "comma"),
    ];
    for (written, key, says) in cases {
        let read = read(written.clone());
        let errors: Vec<_> = read.mistakes.iter().filter(|mistake| !mistake.warning).collect();
        assert!(matches!(errors[..], [m] if m.key == key && !m.in_file && m.detail.contains(says)), "{errors:?}");
        assert!(read.usable.is_empty() && !format!("{read:?}").contains("nonsense"), "{read:?}");
    }
}

#[test]
fn one_cluster_under_two_names_is_refused() {
    let mut both = file("a");
    both.extend(file("b"));
    let read = Connections::read(&BTreeMap::new(), &both, &Fake(BTreeMap::from([("FILE_PW", "x")])));
    assert!(read.mistakes.iter().any(|m| m.summary.contains("two names") && m.in_file), "{:?}", read.mistakes);
    assert_eq!(read.usable.len(), 1, "the first name keeps it");
}
