//! Edits of the file that keep its comments, order and format.
//!
//! An edit is carried out twice: on the checked model, which decides whether it is allowed and what must come out
//! (`on_model`), and on the text (`on_text`). The new text is parsed and must say exactly what the model says;
//! otherwise nothing is changed. So a layout that the text editor does not understand is refused, never damaged.

mod on_model;
mod on_text;

use std::net::IpAddr;
use std::path::Path;

use super::error::ConfigErrors;
use super::model::{BackendName, ServiceName};
use crate::control::daemon::{ControlError, Edit, ErrorCode};

/// Why an edit was not carried out. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text was wrong before.
    #[error("the configuration is wrong as it is, so it cannot be edited:\n{0}")]
    Before(ConfigErrors),
    /// The text would be wrong after.
    #[error("the configuration would be wrong after this edit:\n{0}")]
    After(ConfigErrors),
    /// The file is laid out in a way that cannot be edited safely.
    #[error("the file's layout cannot be edited automatically: {0}")]
    Layout(String),
    /// No such backend.
    #[error("there is no backend {0}")]
    NoBackend(BackendName),
    /// No such service.
    #[error("there is no service {0}")]
    NoService(ServiceName),
    /// The backend is not in the service.
    #[error("backend {backend} is not a member of service {service}")]
    NotMember {
        /// The backend.
        backend: BackendName,
        /// The service.
        service: ServiceName,
    },
    /// The backend is in no service.
    #[error("backend {0} is a member of no service, so it has no weight or port")]
    NoMembership(BackendName),
    /// The backend is already in the service.
    #[error("backend {backend} is already a member of service {service}")]
    AlreadyMember {
        /// The backend.
        backend: BackendName,
        /// The service.
        service: ServiceName,
    },
    /// An addition without a service.
    #[error("no service is named that backend {0} is to join")]
    NoServices(BackendName),
    /// A service named twice.
    #[error("service {0} is named twice")]
    ServiceTwice(ServiceName),
    /// A new backend without addresses.
    #[error("backend {0} is new and has no address")]
    NoAddress(BackendName),
    /// Two addresses of one family.
    #[error("a backend has one address of each family, not both {0} and {1}")]
    SameFamily(IpAddr, IpAddr),
    /// The backend exists with another address.
    #[error("backend {backend} exists, and {address} is not its address")]
    OtherAddress {
        /// The backend.
        backend: BackendName,
        /// The address asked for.
        address: IpAddr,
    },
    /// The backend exists with another owner.
    #[error("backend {0} exists with another owner")]
    OtherOwner(BackendName),
    /// The service would have no member.
    #[error("backend {backend} is the last member of service {service}")]
    LastMember {
        /// The backend.
        backend: BackendName,
        /// The service.
        service: ServiceName,
    },
    /// Only backups would be left.
    #[error("backend {backend} is the last primary member of service {service}")]
    LastPrimary {
        /// The backend.
        backend: BackendName,
        /// The service.
        service: ServiceName,
    },
    /// Nothing was asked for.
    #[error("nothing is to be set on backend {0}")]
    Nothing(BackendName),
}

impl EditError {
    /// What to do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Before(_) => "mend the file first; rollcall config check shows when it is right".into(),
            Self::After(_) => return None,
            Self::Layout(_) => "edit the file by hand, then rollcall reload".into(),
            Self::NoBackend(_) => "rollcall backend list shows the names".into(),
            Self::NoService(_) => "rollcall service list shows the names".into(),
            Self::NotMember { backend, .. } => format!("rollcall backend show {backend} shows where it is a member"),
            Self::NoMembership(backend) => format!("rollcall backend add {backend} makes it a member of a service"),
            Self::AlreadyMember { backend, .. } => format!("rollcall backend set {backend} changes port and weight"),
            Self::NoServices(_) => "name at least one service".into(),
            Self::ServiceTwice(_) => "name each service once".into(),
            Self::NoAddress(_) => "give its IPv4 address, its IPv6 address, or both".into(),
            Self::SameFamily(..) => "give one of them".into(),
            Self::OtherAddress { .. } => {
                "leave the address out to use the existing backend, or choose another name".into()
            }
            Self::OtherOwner(backend) => format!("rollcall backend set {backend} changes its owner"),
            Self::LastMember { service, .. } | Self::LastPrimary { service, .. } => format!(
                "add another member first (rollcall backend add NAME --address ADDRESS --service {service}); or, to end the \
                 service, delete it from the file and run rollcall reload"
            ),
            Self::Nothing(_) => "name a weight, a port or an owner".into(),
        })
    }

    /// The class, which fixes the exit code.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Before(_) | Self::After(_) | Self::Layout(_) | Self::LastMember { .. } | Self::LastPrimary { .. } => {
                ErrorCode::Config
            }
            Self::NoBackend(_) | Self::NoService(_) | Self::NotMember { .. } => ErrorCode::NotFound,
            _ => ErrorCode::Usage,
        }
    }
}

impl From<EditError> for ControlError {
    fn from(error: EditError) -> Self {
        Self { code: error.code(), message: error.to_string(), hint: error.hint() }
    }
}

/// The text after the edit. Everything that the edit does not concern stays byte for byte as it was, every comment
/// outside of a removed entry among it.
pub fn apply(text: &str, edit: &Edit) -> Result<String, EditError> {
    let before = super::parse(text, Path::new("before the edit")).map_err(EditError::Before)?;
    let wanted = on_model::apply(&before, edit)?;
    let edited = on_text::apply(text, edit).map_err(EditError::Layout)?;
    let after = super::parse(&edited, Path::new("after the edit")).map_err(EditError::After)?;
    if after == wanted { Ok(edited) } else { Err(EditError::Layout("the result would say something else".into())) }
}
