package load

import "fmt"

// topics are the topic names and filters of a run of Messages.
type topics struct {
	Messages
	run uint32
}

// name is the publisher's topic name.
func (t topics) name(publisher int) string {
	if t.Filters > 0 {
		return fmt.Sprintf("load/%x/wild/%06d/a/b/c", t.run, publisher)
	}
	return fmt.Sprintf("load/%x/%s/%06d", t.run, t.Mapping, publisher)
}

// filters are what the subscriber subscribes to. Exactly one of them matches each message that is
// for it.
func (t topics) filters(subscriber int) []string {
	switch {
	case t.Mapping == FanIn:
		return []string{fmt.Sprintf("load/%x/fan-in/+", t.run)}
	case t.Mapping == Shared:
		return []string{fmt.Sprintf("$share/load/load/%x/shared/#", t.run)}
	case t.Mapping == FanOut:
		var names []string
		for i := range t.Publishers {
			names = append(names, t.name(i))
		}
		return names
	case t.Filters > 0:
		return t.wildcards(subscriber)
	}
	return []string{t.name(subscriber)}
}

// wildcards are one filter that matches the pair's topic name and Filters that miss it by a level,
// so that the broker has to look at each of them or to know better.
func (t topics) wildcards(pair int) []string {
	list := []string{fmt.Sprintf("load/%x/wild/%06d/+/b/#", t.run, pair)}
	for i := range t.Filters {
		switch i % 3 {
		case 0:
			list = append(list, fmt.Sprintf("load/%x/wild/%06d/+/x%d/#", t.run, pair, i))
		case 1:
			list = append(list, fmt.Sprintf("load/%x/+/%06d/a/b/y%d", t.run, pair, i))
		default:
			list = append(list, fmt.Sprintf("load/%x/wild/%06d/a/+/z%d/+", t.run, pair, i))
		}
	}
	return list
}
