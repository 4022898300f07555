//! Places in an order that others can be put between: numbers with room in between.

/// Room that is left between two that come one after the other.
const ROOM: i64 = 1 << 32;

/// The farthest from the middle that a place may be: beyond, all are given new ones.
const FARTHEST: i64 = i64::MAX / 4;

/// Most media that are placed at once; so many fit beyond the farthest place.
const AT_ONCE_MAX: usize = 1 << 20;

/// Places for so many, after the one and before the other where there are such. `None` when there is no room.
pub(super) fn between(after: Option<i64>, before: Option<i64>, count: usize) -> Option<Vec<i64>> {
    let number = i64::try_from(count).ok().filter(|_| count <= AT_ONCE_MAX)?;
    let (first, step) = match (after, before) {
        (None, None) => (0, ROOM),
        (Some(after), None) => (after.checked_add(ROOM)?, ROOM),
        (None, Some(before)) => (before.checked_sub(ROOM * number)?, ROOM),
        (Some(after), Some(before)) => {
            let step = before.checked_sub(after)? / (number + 1);
            (after + step, step)
        }
    };
    let places: Vec<i64> = (0..number).map(|n| first + n * step).collect();
    let is_room = step > 0 && places.iter().all(|place| place.abs() <= FARTHEST);
    is_room.then_some(places)
}

/// Places for so many, one after the other, when those that they have leave no room.
pub(super) fn anew(count: usize) -> Vec<i64> {
    between(None, None, count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_order_and_within_what_they_are_between() {
        for (after, before) in
            [(None, None), (Some(0), None), (None, Some(-5)), (Some(-10), Some(10)), (Some(0), Some(4))]
        {
            let places = between(after, before, 3).expect("room");
            assert!(places.is_sorted_by(|one, next| one < next), "{places:?}");
            assert!(after.is_none_or(|after| places[0] > after) && before.is_none_or(|before| places[2] < before));
        }
    }

    #[test]
    fn no_room_is_told() {
        assert_eq!(between(Some(0), Some(3), 3), None);
        assert_eq!(between(Some(1), Some(1), 1), None);
        assert_eq!(between(Some(FARTHEST), None, 1), None);
        assert_eq!(between(None, Some(-FARTHEST), 1), None);
        assert_eq!(between(None, None, AT_ONCE_MAX + 1), None);
        assert!(anew(AT_ONCE_MAX).is_sorted() && between(Some(i64::MIN), Some(i64::MAX), 1).is_none());
    }

    /// Half of the room is left each time.
    #[test]
    fn many_fit_in_the_same_place_before_there_is_no_room() {
        let (mut before, mut times) = (ROOM, 0);
        while let Some(places) = between(Some(0), Some(before), 1) {
            (before, times) = (places[0], times + 1);
        }
        assert_eq!(times, 32);
    }
}
