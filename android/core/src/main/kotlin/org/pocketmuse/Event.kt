package org.pocketmuse

/** What happens while a job runs, in the order in which it happens. */
public sealed interface Event {
    /** The job was started. First of all events, once. */
    public class Started(
        /** Steers the job. It need not be closed. */
        public val job: Job,
    ) : Event

    /** The job went on. Every one is delivered. */
    public class Progress(
        /** How far the job is. */
        public val progress: JobProgress,
    ) : Event

    /**
     * What the first image would be if it were finished now. Who collects slowly gets the newest
     * and not those before it.
     */
    public class Preview(
        /** Its pixels, opaque. */
        public val image: Pixels,
    ) : Event

    /** A frame of a video was finished. Every one is delivered, and kept nowhere else. */
    public class Frame(
        /** Which, from 0. */
        public val frame: Int,
        /** The image. */
        public val image: GeneratedImage,
    ) : Event

    /** The job did what was asked for. Last of all events, once. */
    public class Finished(
        /** The images; none of a video. */
        public val images: List<GeneratedImage>,
        /** The request with every default filled in: it makes the same images again. */
        public val request: Request,
        /** What of a prompt did not fit the model, a line for each prompt. */
        public val truncated: List<String>,
    ) : Event
}
