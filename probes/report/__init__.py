"""What people and other tools read: pure functions of records, results and evidence."""
