//! The checks of the command `doctor`, which change nothing.

use std::{path::Path, time::Duration};

use service_kit::{
    auth::{
        check::{MAX_SECRET_AGE, check_key_file},
        key_source::Purpose,
    },
    clock::Clock,
    db::Migrate,
    ops::doctor::{Finding, files::modify_time, in_days},
    server::check::{check_listener, check_proxies, check_rate_limits},
};

use crate::{
    config::{Config, PasswordArgs, SessionArgs},
    mail::check::check_mail,
    refresh_secrets::{SecretFile, SecretInfo},
    store::passkeys,
    webauthn::relying_party::RelyingParty,
};

/// The least memory and the least product of memory and passes that OWASP recommends for argon2id, in KiB.
const MIN_PASSWORD_MEMORY_KIB: u32 = 7168;
const MIN_PASSWORD_COST_KIB: u64 = 5 * 7168;

/// Minimum length of passwords without a second factor (NIST SP 800-63B-4, section 3.1.1.2).
const MIN_PASSWORD_LENGTH: u16 = 15;

/// Checks all settings, files and the database of a server.
pub async fn diagnose(config: &Config, clock: &Clock) -> Vec<Finding> {
    let listener = [
        check_listener("--listen", config.listen, &config.tls, &config.limits),
        check_proxies(&[config.listen], &config.limits.proxies),
    ];
    let mut findings = listener.to_vec();
    findings.extend(config.tls.check(clock));
    findings.extend(check_key_file(&config.secrets.keys.key_file, Purpose::Sign, clock));
    findings.extend(diagnose_service(config, "auth-service", clock).await);
    findings
}

/// Checks what depends neither on the listener nor on the keys. `program` is the name of the program.
pub async fn diagnose_service(config: &Config, program: &str, clock: &Clock) -> Vec<Finding> {
    let mut findings = vec![
        check_rate_limits(config.rates.rate_limits),
        check_sessions(&config.sessions),
        check_passwords(&config.passwords),
    ];
    let database = config.database.service_database();
    findings.extend(database.diagnose(program, config.migrations.migrate, clock).await);
    findings.extend(check_passkeys(config).await);
    let secret_file = config.secrets.refresh_secret_file();
    findings.push(check_refresh_secret(&secret_file, config.sessions.refresh_idle_ttl, clock));
    findings.push(check_mail(&config.mail).await);
    findings
}

/// Checks that the lifetimes do not contradict each other.
fn check_sessions(sessions: &SessionArgs) -> Finding {
    let SessionArgs { access_token_ttl, refresh_idle_ttl, refresh_max_ttl, refresh_grace, .. } = sessions;
    if refresh_idle_ttl > refresh_max_ttl {
        let message = "--refresh-idle-ttl is longer than --refresh-max-ttl, so that it has no effect";
        Finding::warning("sessions", message, "--refresh-idle-ttl with at most the value of --refresh-max-ttl")
    } else if access_token_ttl > refresh_idle_ttl || refresh_grace > refresh_idle_ttl {
        let message = "sessions end before their access tokens expire, or before the grace period of a refresh";
        Finding::warning("sessions", message, "--refresh-idle-ttl with a longer duration")
    } else {
        Finding::ok("sessions", "the lifetimes of sessions and tokens are consistent")
    }
}

/// Checks that passwords are hard to guess, also for those who have stolen the hashes.
fn check_passwords(passwords: &PasswordArgs) -> Finding {
    let (memory, passes) = (passwords.password_memory_kib, passwords.password_passes);
    if memory < MIN_PASSWORD_MEMORY_KIB || u64::from(memory) * u64::from(passes) < MIN_PASSWORD_COST_KIB {
        let message = format!("password hashes with {memory} KiB and {passes} passes are too cheap");
        return Finding::warning("passwords", message, "auth-service password bench, which prints suitable settings");
    }
    let length = passwords.password_min_length;
    if length < MIN_PASSWORD_LENGTH {
        let message = format!("passwords with {length} characters are accepted; NIST requires {MIN_PASSWORD_LENGTH}");
        return Finding::warning("passwords", message, format!("--password-min-length {MIN_PASSWORD_LENGTH}"));
    }
    Finding::ok("passwords", format!("hashes use {memory} KiB and {passes} passes"))
}

/// Checks that passkeys can be used under `--public-url`. Returns `None` if there are none, or the database cannot be read,
/// which the checks of the database report.
async fn check_passkeys(config: &Config) -> Option<Finding> {
    let db = config.database.open_existing_with(Migrate::Never).await.ok()?;
    let stored = passkeys::site(&db).await;
    db.close().await;
    let stored = stored.ok()??;
    let site = config.public_url.as_ref().and_then(RelyingParty::new);
    Some(if site.is_some_and(|site| site.id() == stored) {
        Finding::ok("passkeys", format!("passkeys belong to {stored}"))
    } else {
        let message = format!("passkeys belong to {stored}, and cannot be used under another domain name");
        Finding::warning("passkeys", message, format!("--public-url https://{stored}"))
    })
}

/// Checks the file with the secrets of refresh tokens.
fn check_refresh_secret(path: &Path, idle_ttl: Duration, clock: &Clock) -> Finding {
    let name = path.display();
    let read = SecretFile::read(path).and_then(|file| match file {
        Some(file) => Ok(Some((file.describe(), modify_time(path)?))),
        None => Ok(None),
    });
    let (secrets, changed_at) = match read {
        Ok(Some(read)) => read,
        Ok(None) => {
            return Finding::ok(
                "refresh_secret",
                format!("{name} does not exist; the server creates it for a new database"),
            );
        }
        Err(error) => return Finding::from_error("refresh_secret", &error, format!("restore {name} from a backup")),
    };
    // The secret of the first start has no time. The file has not changed since then.
    let created_at = secrets.first().and_then(|current| current.created_at).unwrap_or(changed_at);
    let age = clock.now().since(created_at);
    let message = format!("secrets in {name}: {}; the current one is {} old", secrets.len(), in_days(age));
    let is_earlier =
        |secret: &&SecretInfo| !secret.is_current && secret.created_at.is_none_or(|time| time < created_at);
    match secrets.iter().find(is_earlier) {
        _ if age > MAX_SECRET_AGE => {
            let fix = format!("auth-service refresh-secret rotate --secret-file {name}");
            Finding::warning("refresh_secret", format!("{message}, and due for a rotation"), fix)
        }
        Some(earlier) if age > idle_ttl => {
            let fix = format!("auth-service refresh-secret remove {} --secret-file {name}", earlier.id);
            Finding::warning("refresh_secret", format!("{message}; no session needs the others"), fix)
        }
        _ => Finding::ok("refresh_secret", message),
    }
}
