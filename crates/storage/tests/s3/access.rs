//! Who may do what, and how a refusal is told from an absence.

use storage::{
    GetOptions, ListLimit, ObjectPrefix, ObjectStore, PutOptions, S3Config, S3Credentials, S3Store, Secret,
    StorageError,
};

use crate::stores::{ACCESS_KEY, BUCKET, Place, SECRET_KEY, config, get, path, put, s3};

fn with(place: &Place, change: impl FnOnce(&mut S3Config)) -> ObjectStore {
    let mut config = config(&place.server.as_ref().unwrap().endpoint());
    change(&mut config);
    S3Store::new(config).unwrap().into()
}

#[tokio::test]
async fn wrong_credentials_are_told_from_missing_objects() {
    let place = s3().await;
    put(&place.store, "object", "x").await;
    for (key, secret, code) in [(ACCESS_KEY, "wrong", "SignatureDoesNotMatch"), ("AKOTHER", SECRET_KEY, "NotSignedUp")]
    {
        let store = with(&place, |config| config.credentials = S3Credentials::new(key, Secret::new(secret)));
        let options = PutOptions::default();
        let outcomes = [
            get(&store, "object").await.map(drop),
            get(&store, "missing").await.map(drop),
            store.put(&path("object"), "y".into(), options).await.map(drop),
            store.delete(&path("object")).await,
            store.list(&ObjectPrefix::all(), None, ListLimit::MAX).await.map(drop),
        ];
        for outcome in outcomes {
            match outcome {
                Err(StorageError::CredentialsRefused { code: told, .. }) => assert_eq!(told, code),
                other => panic!("{key}: {other:?}"),
            }
        }
        // HEAD has no body to tell the difference, but a refusal is never an absence.
        let head = store.head(&path("object")).await;
        assert!(matches!(head, Err(StorageError::AccessDenied { .. })), "{key}: {head:?}");
    }
    assert!(matches!(get(&place.store, "missing").await, Err(StorageError::NotFound)));
    assert_eq!(crate::stores::read(&place.store, "object").await, "x", "nothing was changed");
}

#[tokio::test]
async fn a_missing_bucket_is_no_missing_object() {
    let place = s3().await;
    let store = with(&place, |config| config.bucket = "no-such-bucket".to_owned());
    let listed = store.list(&ObjectPrefix::all(), None, ListLimit::MAX).await;
    assert!(matches!(listed, Err(StorageError::Rejected { .. })), "{listed:?}");
}

#[tokio::test]
async fn types_and_cache_headers_are_kept() {
    let place = s3().await;
    let options =
        PutOptions { content_type: Some("image/png".to_owned()), cache_control: Some("max-age=60".to_owned()) };
    place.store.put(&path("object"), "x".into(), options).await.unwrap();
    let object = place.store.get(&path("object"), GetOptions::default()).await.unwrap();
    assert_eq!(object.meta.content_type.as_deref(), Some("image/png"));
    assert_eq!(place.store.head(&path("object")).await.unwrap().content_type.as_deref(), Some("image/png"));
}

#[tokio::test]
async fn no_output_shows_the_secret() {
    let place = s3().await;
    let config = config(&place.server.as_ref().unwrap().endpoint());
    let error = {
        let store = with(&place, |config| {
            config.credentials = S3Credentials::new(ACCESS_KEY, Secret::new(format!("{SECRET_KEY}-wrong")));
        });
        get(&store, "object").await.unwrap_err()
    };
    let mut texts = vec![format!("{config:?}"), format!("{:?}", place.store), format!("{error:?} {error}")];
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        texts.push(format!("{error:?} {error}"));
        source = error.source();
    }
    for text in texts {
        assert!(!text.contains(SECRET_KEY), "{text}");
    }
    assert!(format!("{:?}", place.store).contains(BUCKET));
}
