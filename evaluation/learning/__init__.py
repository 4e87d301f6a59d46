"""What the study of learning shows, from what it keeps: stored predictions and the numbers of each step."""
