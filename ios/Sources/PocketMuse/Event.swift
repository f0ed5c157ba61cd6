/// What happens while a job runs, in the order in which it happens.
public enum Event: Sendable {
    /// The job was started, and can be steered. First of all events, once.
    case started(Job)

    /// The job went on. Every one is delivered.
    case progress(JobProgress)

    /// What the first image would be if it were finished now. Who takes events slowly gets the
    /// newest and not those before it.
    case preview(Pixels)

    /// A frame of a video was finished, from 0. Every one is delivered, and kept nowhere else.
    case frame(Int, GeneratedImage)

    /// The job did what was asked for. Last of all events, once.
    case finished(Finished)
}

/// What came of a job.
public struct Finished: Sendable {
    /// The images; none of a video.
    public let images: [GeneratedImage]

    /// The request with every default filled in: it makes the same images again.
    public let request: Request

    /// What of a prompt did not fit the model, a line for each prompt.
    public let truncated: [String]
}
