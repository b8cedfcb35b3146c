"""What a server keeps: the parts that it judged last, those that a person has marked, and counts by the hour."""
