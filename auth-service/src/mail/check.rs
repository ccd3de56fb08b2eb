//! The check of the command `doctor` that mails can be sent. It sends none.

use service_kit::ops::doctor::Finding;

use super::transport::Transport;
use crate::{config::MailArgs, model::mail_transport::TransportSetting};

const FIX: &str = "--mail, --mail-password-file and --mail-ca-file with the settings of the SMTP server";

/// Checks the transport of mails.
pub async fn check_mail(args: &MailArgs) -> Finding {
    let message = match &args.mail {
        TransportSetting::Off => return Finding::ok("mail", "mails are off"),
        TransportSetting::Smtp(server) => format!("{}:{} accepts this client", server.host, server.port),
        TransportSetting::Command(_) => "mails are passed to a program, which was not run".to_owned(),
        TransportSetting::File(folder) => format!("mails are written to {}", folder.display()),
    };
    let transport = match Transport::open(&args.mail, args) {
        Ok(transport) => transport,
        Err(error) => return Finding::from_error("mail", &error, FIX),
    };
    match transport.check().await {
        Ok(()) => Finding::ok("mail", message),
        Err(error) => Finding::failed("mail", format!("no mail can be sent: {}", error.message), FIX),
    }
}
