//! Notes beside the pixels of a JPEG or WebP, as an XMP packet: what others read, and our own. Some
//! programs keep it where they drop EXIF's notes. Layout: ISO 16684-1. Knows no image format.

use roxmltree::{Document, Node, ParsingOptions};

use super::exif::{PARAMETERS, in_json, ours};

/// The most bytes of a packet in a JPEG: "XMP Specification Part 3", section 1.1.3.
pub(super) const MAX_JPEG_BYTES: usize = 65_502;

const RDF: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
const DUBLIN_CORE: &str = "http://purl.org/dc/elements/1.1/";
/// The namespace of our own property, `notes`: JSON.
const OURS: &str = "urn:pocketmuse:";
/// The most parts of a packet that is read: those of cameras and of their editors have hundreds.
const MOST_NODES: u32 = 100_000;

/// The packet that holds `notes`, of at most `most` bytes: if it is longer, the note for others is
/// left out, and then all. `None` without notes.
pub(super) fn packet(notes: &[(&str, &str)], most: usize) -> Option<String> {
    let ours = ours(notes).map(|json| format!("<pocketmuse:notes>{}", text(&in_xml(&json))));
    let ours = ours.map(|property| property + "</pocketmuse:notes>\n");
    let others = notes.iter().find(|(keyword, _)| *keyword == PARAMETERS).map(|(_, others)| {
        let others = text(others);
        format!(
            "<dc:description><rdf:Alt><rdf:li xml:lang=\"x-default\">{others}</rdf:li></rdf:Alt>\
             </dc:description>\n"
        )
    });
    let properties = [ours, others].map(Option::unwrap_or_default);
    [&properties[..], &properties[..1]].into_iter().find_map(|properties| {
        let properties = properties.concat();
        let packet = (!properties.is_empty()).then(|| around(&properties))?;
        (packet.len() <= most).then_some(packet)
    })
}

fn around(properties: &str) -> String {
    format!(
        "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n\
         <x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\n<rdf:RDF xmlns:rdf=\"{RDF}\">\n\
         <rdf:Description rdf:about=\"\" xmlns:dc=\"{DUBLIN_CORE}\" xmlns:pocketmuse=\"{OURS}\">\n\
         {properties}</rdf:Description>\n</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end=\"r\"?>"
    )
}

/// JSON without the two letters that XML refuses and JSON does not escape.
fn in_xml(json: &str) -> String {
    json.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff")
}

/// As XML writes text; what it cannot hold is marked.
fn text(plain: &str) -> String {
    let mut text = String::with_capacity(plain.len());
    for letter in plain.chars() {
        match letter {
            '&' => text += "&amp;",
            '<' => text += "&lt;",
            '>' => text += "&gt;",
            '\r' => text += "&#13;",
            '\t' | '\n' => text.push(letter),
            '\0'..' ' | '\u{fffe}' | '\u{ffff}' => text.push('\u{fffd}'),
            _ => text.push(letter),
        }
    }
    text
}

/// The note under `keyword` that a packet holds.
pub(super) fn note(packet: &[u8], keyword: &str) -> Option<String> {
    let packet = str::from_utf8(packet).ok()?;
    let options = ParsingOptions { nodes_limit: MOST_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(packet, options).ok()?;
    let mut about = document.descendants().filter(|node| node.has_tag_name((RDF, "Description")));
    if keyword == PARAMETERS {
        let description = about.find_map(|about| property(about, DUBLIN_CORE, "description"))?;
        let mut languages = description.descendants();
        return languages.find(|node| node.has_tag_name((RDF, "li"))).map(inside);
    }
    let json = about.find_map(|about| {
        // Programs write a property of plain text either way.
        let attribute = about.attribute((OURS, "notes")).map(str::to_owned);
        attribute.or_else(|| property(about, OURS, "notes").map(inside))
    })?;
    in_json(json.as_bytes(), keyword)
}

fn property<'a, 'input>(
    about: Node<'a, 'input>,
    namespace: &str,
    name: &str,
) -> Option<Node<'a, 'input>> {
    about.children().find(|node| node.has_tag_name((namespace, name)))
}

fn inside(node: Node<'_, '_>) -> String {
    node.children().filter_map(|child| child.text()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTES: [(&str, &str); 3] = [
        ("a", "{\"<x>\": 1} \0\r\n\u{fffe}\u{85}"),
        (PARAMETERS, "ein <Haus> & \"Turm\" \u{1F680}\r\n\tSteps: 1"),
        ("b", ""),
    ];

    #[test]
    fn notes_are_read_back() {
        let whole = packet(&NOTES, usize::MAX).expect("notes");
        for (keyword, text) in NOTES {
            assert_eq!(note(whole.as_bytes(), keyword).as_deref(), Some(text));
            let alone = packet(&[(keyword, text)], usize::MAX).expect("a note");
            assert_eq!(note(alone.as_bytes(), keyword).as_deref(), Some(text));
        }
        assert_eq!((note(whole.as_bytes(), "c"), packet(&[], usize::MAX)), (None, None));
        let marked = packet(&[(PARAMETERS, "a\0b")], usize::MAX).expect("a note");
        assert_eq!(note(marked.as_bytes(), PARAMETERS).as_deref(), Some("a\u{fffd}b"));
    }

    #[test]
    fn a_packet_that_another_program_wrote_again_is_read() {
        let whole = |inside: &str| {
            format!(
                "<x:xmpmeta xmlns:x='adobe:ns:meta/'><r:RDF xmlns:r='{RDF}'>\
                 <r:Description r:about='' xmlns:tiff='http://ns.adobe.com/tiff/1.0/'/>{inside}\
                 </r:RDF></x:xmpmeta>"
            )
        };
        let attribute =
            format!("<r:Description xmlns:p='{OURS}' p:notes='{{&quot;a&quot;:&quot;1&quot;}}'/>");
        let parts = format!(
            "<r:Description xmlns:p='{OURS}'><p:notes>{{\"a\"<![CDATA[:\"1\"]]>}}</p:notes>\
             </r:Description>"
        );
        for (inside, expected) in
            [(attribute, Some("1")), (parts, Some("1")), (String::new(), None)]
        {
            assert_eq!(note(whole(&inside).as_bytes(), "a").as_deref(), expected, "{inside}");
        }
    }

    #[test]
    fn what_is_too_long_is_left_out_and_ours_last() {
        let whole = packet(&NOTES, usize::MAX).expect("notes").len();
        assert_eq!(packet(&NOTES, whole).map(|packet| packet.len()), Some(whole));
        let ours = packet(&NOTES, whole - 1).expect("ours fits");
        assert_eq!(note(ours.as_bytes(), "a").as_deref(), Some(NOTES[0].1));
        assert_eq!(note(ours.as_bytes(), PARAMETERS), None);
        assert_eq!(packet(&NOTES, ours.len() - 1), None);
    }

    #[test]
    fn no_hostile_packet_makes_it_panic() {
        let whole = packet(&NOTES, usize::MAX).expect("notes").into_bytes();
        for at in 0..whole.len() {
            for byte in [0, b'<', b'"', 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                NOTES.iter().for_each(|(keyword, _)| drop(note(&bytes, keyword)));
            }
        }
        let many = format!("<a>{}</a>", "<b/>".repeat(200_000));
        let deep = "<a>".repeat(90_000) + &"</a>".repeat(90_000);
        let bomb = "<!DOCTYPE a [<!ENTITY b 'bbbb'>]><a>&b;</a>".to_owned();
        for hostile in [many, deep, bomb, String::new()] {
            assert_eq!(note(hostile.as_bytes(), "a"), None);
        }
    }
}
