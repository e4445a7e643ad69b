package router

const (
	segmentMin = 8    // slots of the first segment
	segmentMax = 1024 // slots at which a segment is split instead of doubled: the longest rehash
)

// A slot of the edge table leads to a literal child. 8 bytes.
type slot struct {
	tag uint32 // of the child's path
	id  uint32 // the child, 0 for a free slot
}

// A segment is an open-addressed table of its own with linear probing. It holds all the tags that begin with
// the same depth bits.
type segment struct {
	slots []slot // length is a power of two
	count int
	depth uint8
}

// full reports whether one more entry would load the segment beyond 13/16.
func (s *segment) full() bool { return (s.count+1)*16 > len(s.slots)*13 }

// A table finds the literal child of a node by the tag of its path. It grows by one segment at a time
// (extendible hashing), so no insertion moves more than segmentMax entries.
type table struct {
	directory []*segment // indexed by the first bits of a tag; neighbours may be the same segment
	bits      uint8      // the directory has 1<<bits entries
	count     int
}

func (t *table) segment(tag uint32) *segment { return t.directory[tag>>(32-t.bits)] }

// insert adds a child. The same tag may be there already: chains verify.
func (t *table) insert(tag, id uint32) {
	if t.directory == nil {
		t.directory = []*segment{{slots: make([]slot, segmentMin)}}
	}
	seg := t.segment(tag)
	for seg.full() {
		if len(seg.slots) < segmentMax || !t.splittable(seg) {
			seg.double()
		} else {
			t.split(tag, seg)
		}
		seg = t.segment(tag)
	}
	seg.insert(tag, id)
	t.count++
}

// splittable bounds the directory: if tags collide so much that splitting does not part them, a segment
// grows beyond segmentMax instead.
func (t *table) splittable(seg *segment) bool {
	return seg.depth < t.bits || 1<<t.bits <= 16*(t.count/segmentMax+1)
}

func (s *segment) insert(tag, id uint32) {
	mask := uint32(len(s.slots) - 1)
	i := tag & mask
	for s.slots[i].id != 0 {
		i = (i + 1) & mask
	}
	s.slots[i] = slot{tag, id}
	s.count++
}

func (s *segment) double() {
	old := s.slots
	s.slots, s.count = make([]slot, 2*len(old)), 0
	for _, e := range old {
		if e.id != 0 {
			s.insert(e.tag, e.id)
		}
	}
}

// split parts the segment of tag by one more bit.
func (t *table) split(tag uint32, seg *segment) {
	if seg.depth == t.bits {
		directory := make([]*segment, 2*len(t.directory))
		for i, s := range t.directory {
			directory[2*i], directory[2*i+1] = s, s
		}
		t.directory = directory
		t.bits++
	}
	depth := seg.depth + 1
	half := [2]*segment{
		{slots: make([]slot, len(seg.slots)), depth: depth},
		{slots: make([]slot, len(seg.slots)), depth: depth},
	}
	for _, e := range seg.slots {
		if e.id != 0 {
			half[e.tag>>(32-depth)&1].insert(e.tag, e.id)
		}
	}
	span := 1 << (t.bits - depth) // directory entries of each half
	first := int(tag>>(32-depth)) &^ 1 * span
	for i := range span {
		t.directory[first+i] = half[0]
		t.directory[first+span+i] = half[1]
	}
}

// remove takes the entry of a child out and closes the gap.
func (t *table) remove(tag, id uint32) {
	seg := t.segment(tag)
	mask := uint32(len(seg.slots) - 1)
	i := tag & mask
	for seg.slots[i].id != id {
		i = (i + 1) & mask
	}
	for j := (i + 1) & mask; seg.slots[j].id != 0; j = (j + 1) & mask {
		// The entry at j may move to i if its home is not between them.
		if home := seg.slots[j].tag & mask; (j-home)&mask >= (j-i)&mask {
			seg.slots[i] = seg.slots[j]
			i = j
		}
	}
	seg.slots[i] = slot{}
	seg.count--
	t.count--
}
