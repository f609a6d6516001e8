//! Requests that name several things: one access for each of them.

use super::field::{Field, Fields, Fixed, body_value};
use super::{AccessError, MAX_ACCESSES};
use crate::policy::json::{Json, Pointer, TwoSpellings};
use crate::route::Alphabet;

/// A list in the body, of which every element makes an access of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Each {
    /// Where the list is.
    pub items: Items,
    /// Stands for a list that is absent or empty, which is an error without it. Of images there
    /// may always be none.
    pub otherwise: Option<Fixed>,
}

/// What the elements are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Items {
    /// Names or ids: a list of texts, or one text (as GraphQL takes it).
    Names(Pointer),
    /// The apps whose images are referred to in the platform's registry.
    Images {
        /// Places of image references; `*` stands for every element of an array.
        places: Box<[Pointer]>,
        /// Host of the registry. Images of other registries are nobody's here.
        registry: Box<str>,
    },
}

impl Each {
    /// Whether there is at least one element in every request that is not refused.
    pub fn is_certain(&self) -> bool {
        match self.items {
            Items::Names(_) => true,
            Items::Images { .. } => false,
        }
    }

    /// The elements in one request.
    pub(super) fn read<'a>(&'a self, fields: &Fields<'a>) -> Result<Vec<&'a str>, AccessError> {
        let found = match &self.items {
            Items::Names(pointer) => {
                let names = names(fields, pointer)?;
                match (names.is_empty(), &self.otherwise) {
                    (false, _) => names,
                    (true, Some(fixed)) => vec![fixed.as_str()],
                    (true, None) => {
                        return Err(AccessError::Missing(Field::Body(pointer.clone())));
                    }
                }
            }
            Items::Images { places, registry } => images(fields, places, registry)?,
        };
        if found.len() > MAX_ACCESSES {
            return Err(AccessError::TooMany);
        }
        Ok(found)
    }
}

fn names<'a>(fields: &Fields<'a>, pointer: &Pointer) -> Result<Vec<&'a str>, AccessError> {
    let items = match body_value(fields, pointer)? {
        None | Some(Json::Null) => &[],
        Some(Json::List(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    let name = |item: &'a Json| match item.text() {
        None => Err(AccessError::NotText(Field::Body(pointer.clone()))),
        Some(text) if Alphabet::Id.accepts(text) => Ok(text),
        Some(_) => Err(AccessError::NotAnId(Field::Body(pointer.clone()))),
    };
    items.iter().map(name).collect()
}

fn images<'a>(
    fields: &Fields<'a>,
    places: &[Pointer],
    registry: &str,
) -> Result<Vec<&'a str>, AccessError> {
    let Some(json) = fields.json else {
        return Ok(Vec::new());
    };
    let mut apps = Vec::new();
    for place in places {
        let field = || Field::Body(place.clone());
        let values = json.find_all(place);
        for value in values.map_err(|TwoSpellings| AccessError::Repeated(field()))? {
            let reference = match value {
                Json::Null => continue,
                Json::Text(text) => text.as_str(),
                Json::Bool(_) | Json::Number(_) | Json::List(_) | Json::Object(_) => {
                    return Err(AccessError::NotText(field()));
                }
            };
            if let Some(app) = repository(reference, registry, field)? {
                apps.push(app);
            }
        }
    }
    Ok(apps)
}

/// The app of an image reference `registry/app:tag@digest`; `None` for another registry's.
///
/// A reference that names the registry in any other form than this one is refused: the upstream
/// might find an image there that was not judged.
fn repository<'a>(
    reference: &'a str,
    registry: &str,
    field: impl Fn() -> Field,
) -> Result<Option<&'a str>, AccessError> {
    let prefix = reference.get(..registry.len());
    let rest = prefix
        .filter(|prefix| prefix.eq_ignore_ascii_case(registry))
        .and_then(|_| reference.get(registry.len()..))
        .and_then(|rest| rest.strip_prefix('/'));
    let Some(rest) = rest else {
        let lower = reference.to_ascii_lowercase();
        let hidden = lower.contains(&registry.to_ascii_lowercase())
            || reference.bytes().any(|b| !b.is_ascii_graphic());
        return match hidden {
            true => Err(AccessError::NotAnImage(field())),
            false => Ok(None),
        };
    };
    let app = rest.split([':', '@']).next().unwrap_or_default();
    match Alphabet::Id.accepts(app) {
        true => Ok(Some(app)),
        false => Err(AccessError::NotAnImage(field())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_the_registry_names_its_app() {
        let read = |reference| repository(reference, "registry.fly.io", || Field::Element);
        for (reference, app) in [
            ("registry.fly.io/web:deployment-01", Some("web")),
            ("registry.fly.io/web@sha256:aa", Some("web")),
            ("Registry.Fly.IO/web", Some("web")),
            ("nginx:latest", None),
            ("docker.io/library/nginx", None),
            ("ghcr.io/x/registry", None),
        ] {
            assert_eq!(read(reference), Ok(app), "{reference}");
        }
        for reference in [
            "registry.fly.io",
            "registry.fly.io/",
            "registry.fly.io/web/sub",
            "registry.fly.io:443/web",
            "https://registry.fly.io/web",
            "docker://REGISTRY.fly.io/web",
            "registry.fly.io./web",
            "registry.fly.io/../web",
            "registry\u{200b}.fly.io/web",
            " registry.fly.io/web",
        ] {
            let refused = Err(AccessError::NotAnImage(Field::Element));
            assert_eq!(read(reference), refused, "{reference}");
        }
    }
}
