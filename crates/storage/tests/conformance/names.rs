//! Names with characters that URLs, signatures, XML and shells take for their own.

use storage::{ListLimit, ObjectPrefix};

use crate::stores::{Place, get, path, put, read};

for_each_store! {
    odd_names_are_names
    names_are_taken_literally
}

const ODD: [&str; 17] = [
    "ümläut/日本語.jpg",
    "e\u{301} is not \u{e9}",
    "🦀/🖼.png",
    "100%",
    "100%25.jpg",
    "a%2Fb",
    "%2e%2e/x",
    "a+b c.jpg",
    "q?x=1&y=2#z;a,b",
    "~.-_()[]{}'\"<>|\\^`!*@$:=",
    "dots..jpg/.../.hidden",
    " spaces / around ",
    "tab\there",
    "line\nbreak",
    "bell\u{7}and\u{1b}escape",
    "-rf",
    "con/nul.txt",
];

async fn odd_names_are_names(place: Place) {
    for name in ODD {
        put(&place.store, name, name).await;
    }
    for name in ODD {
        assert_eq!(read(&place.store, name).await, name, "{name:?}");
        assert_eq!(place.store.head(&path(name)).await.unwrap().size, name.len() as u64, "{name:?}");
        let page = place.store.list(&ObjectPrefix::new(name).unwrap(), None, ListLimit::MAX).await.unwrap();
        assert!(page.entries.iter().any(|entry| entry.path.as_str() == name), "{name:?} in {page:?}");
    }
    let page = place.store.list(&ObjectPrefix::all(), None, ListLimit::MAX).await.unwrap();
    let mut sorted = ODD;
    sorted.sort_unstable();
    assert_eq!(page.entries.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>(), sorted);
    for name in ODD {
        place.store.delete(&path(name)).await.unwrap();
        assert!(get(&place.store, name).await.is_err(), "{name:?} is still there");
    }
}

async fn names_are_taken_literally(place: Place) {
    put(&place.store, "a%2Fb", "encoded").await;
    put(&place.store, "a/b", "plain").await;
    put(&place.store, "A/b", "upper").await;
    assert_eq!(read(&place.store, "a%2Fb").await, "encoded");
    assert_eq!(read(&place.store, "a/b").await, "plain");
    assert_eq!(read(&place.store, "A/b").await, "upper");
}
